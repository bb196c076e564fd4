import { server } from "./app.js";

server.listen(process.env.PORT);
