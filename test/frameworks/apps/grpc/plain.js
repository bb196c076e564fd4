import { ServerCredentials } from "@grpc/grpc-js";
import { grpc } from "./app.js";

grpc.bindAsync(`127.0.0.1:${process.env.PORT}`, ServerCredentials.createInsecure(), (error) => {
  if (error !== null) throw error;
});
