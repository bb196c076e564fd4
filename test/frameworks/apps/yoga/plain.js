import { createServer } from "node:http";
import { yoga } from "./app.js";

createServer(yoga).listen(process.env.PORT);
