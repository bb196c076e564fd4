import { isIP } from "node:net";
import { resolve } from "node:path";
import { HandoverError } from "../../errors.js";
import { VERSION } from "../../util/version.js";
import type { Plan } from "./plan.js";
import { plainValue } from "./quote.js";
import { renderUnit } from "./render.js";

/** The text of `<name>.socket`. */
export function renderSocket({ name, sockets, user, workingDirectory }: Plan): string {
  const streams = listenStreams(sockets, workingDirectory);
  const hasPaths = streams.some((stream) => stream.startsWith("/"));
  return renderUnit([`${name}.socket, by handover ${VERSION}. Put it beside ${name}.service.`], {
    Unit: [["What systemctl status calls it.", `Description=sockets of ${name}`]],
    Socket: [
      [
        "What listen() in the program asks for: it is found by its address.",
        ...streams.map((stream) => `ListenStream=${plainValue("the socket", stream)}`),
      ],
      hasPaths && [
        "Who may connect to a path: the user, and its group.",
        "SocketMode=0660",
        ...(user === undefined ? [] : [`SocketUser=${user}`]),
      ],
    ],
    Install: [["Listens from boot on, if it is enabled.", "WantedBy=sockets.target"]],
  });
}

/**
 * What systemd is to listen on, as it writes it: a port, `127.0.0.1:80`, `[::1]:80`, a path, `@abstract`.
 *
 * @throws {HandoverError} `ERR_OPTION`
 */
export function listenStreams(sockets: readonly string[], directory: string): string[] {
  return sockets.map((socket) => {
    if (/^@[^\0]+$/.test(socket)) return socket;
    if (socket.includes("/")) return resolve(directory, socket);
    const [, host, port] = /^(?:(.*):)?(\d{1,5})$/.exec(socket) ?? [];
    const isPort = Number(port) >= 1 && Number(port) <= 65_535;
    if (isPort && isHost(host)) return socket;
    const message = `cannot listen on ${JSON.stringify(socket)}: it must be a port, 127.0.0.1:8080, [::1]:8080, a path, or @name`;
    throw new HandoverError("ERR_OPTION", message);
  });
}

/** Numeric, as systemd looks no names up. */
function isHost(host: string | undefined): boolean {
  if (host === undefined || isIP(host) === 4) return true;
  return /^\[.*\]$/.test(host) && isIP(host.slice(1, -1)) === 6;
}
