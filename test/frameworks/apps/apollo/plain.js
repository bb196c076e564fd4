import { expressMiddleware } from "@as-integrations/express5";
import express from "express";
import { apollo } from "./app.js";

await apollo.start();
const app = express();
app.use("/graphql", express.json(), expressMiddleware(apollo));
app.listen(process.env.PORT);
