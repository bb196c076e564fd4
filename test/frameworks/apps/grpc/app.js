import { Server } from "@grpc/grpc-js";

/** A service without a file of protobuf: its messages are texts. */
const words = {
  say: {
    path: "/Words/Say",
    requestStream: false,
    responseStream: false,
    requestSerialize: (text) => Buffer.from(text),
    requestDeserialize: String,
    responseSerialize: (text) => Buffer.from(text),
    responseDeserialize: String,
  },
};

export const grpc = new Server();
grpc.addService(words, {
  say: ({ request }, answer) => answer(null, `${request} from ${process.pid}`),
});
