import { createHTTPServer } from "@trpc/server/adapters/standalone";
import { router } from "./app.js";

createHTTPServer({ router }).listen(Number(process.env.PORT));
