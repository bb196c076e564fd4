import { startStandaloneServer } from "@apollo/server/standalone";
import { apollo } from "./app.js";

await startStandaloneServer(apollo, { listen: { port: Number(process.env.PORT) } });
