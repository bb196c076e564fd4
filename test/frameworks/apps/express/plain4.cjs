const { app } = require("./app4.cjs");

app.listen(process.env.PORT);
