import { execFile, execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { selfSigned } from "../support/client.js";
import { brief, Service, temporaryDirectory } from "../support/service.js";

const run = promisify(execFile);

const PYTHON = `
import http.client, ssl, sys
context = ssl._create_unverified_context()
connection = http.client.HTTPSConnection("127.0.0.1", int(sys.argv[1]), context=context)
for path in sys.argv[2:]:
    connection.request("GET", path)
    print(connection.getresponse().read().decode())
`;

const JAVA = `
import java.net.*;
import javax.net.ssl.*;
import java.security.cert.X509Certificate;
public class Client {
  public static void main(String[] args) throws Exception {
    SSLContext context = SSLContext.getInstance("TLSv1.3");
    context.init(null, new TrustManager[] { new X509TrustManager() {
      public void checkClientTrusted(X509Certificate[] chain, String type) {}
      public void checkServerTrusted(X509Certificate[] chain, String type) {}
      public X509Certificate[] getAcceptedIssuers() { return new X509Certificate[0]; }
    } }, null);
    HttpsURLConnection.setDefaultSSLSocketFactory(context.getSocketFactory());
    HttpsURLConnection.setDefaultHostnameVerifier((name, session) -> true);
    for (int n = 1; n < args.length; n++)
      System.out.println(new String(new URL("https://127.0.0.1:" + args[0] + args[n]).openStream().readAllBytes()));
  }
}
`;

/** Each asks for paths one after another, on one connection, and prints the answers. */
const CLIENTS: Record<string, (port: string, paths: string[]) => string[]> = {
  curl: (port, paths) => [
    "curl",
    "-sk",
    "-w",
    "\n",
    ...paths.map((path) => `https://127.0.0.1:${port}${path}`),
  ],
  "Python's ssl": (port, paths) => ["python3", "-c", PYTHON, port, ...paths],
  "wget, of GnuTLS": (port, paths) => [
    "wget",
    "-qO-",
    "--no-check-certificate",
    ...paths.map((path) => `https://127.0.0.1:${port}${path}`),
  ],
  Java: (port, paths) => ["java", fileOf("Client.java", JAVA), port, ...paths],
};

/** A request that has arrived before its connection could move is answered by the predecessor. */
const PATHS = ["/", "/when-draining", "/", "/", "/", "/when-draining", "/", "/", "/"];

const PROGRAMS: Record<string, string> = {
  curl: "curl",
  "Python's ssl": "python3",
  "wget, of GnuTLS": "wget",
  Java: "java",
};

for (const [name, command] of Object.entries(CLIENTS)) {
  const program = PROGRAMS[name]!;
  test.skipIf(!isInstalled(program))(
    `${name} keeps its connection over two upgrades (${program})`,
    async () => {
      const service = Service.start("any-protocol.js", {
        settings: { ...brief, ...selfSigned(), protocol: "https" },
      });
      const { port } = await service.until("accepting");
      const [file, ...words] = command(String(port), PATHS);
      const client = run(file!, words);
      for (let generation = 0; generation < 2; generation++) {
        await service.until("request", { generation, url: "/when-draining" });
        await service.replace();
        expect(await service.until("exit", { generation })).toMatchObject({ moved: 1, stayed: {} });
      }
      const pids = service.lines.filter(({ event }) => event === "request").map(({ pid }) => pid);
      expect(pids).toHaveLength(PATHS.length);
      // Some print nothing between two answers.
      expect((await client).stdout.replaceAll(/\s/g, "")).toBe(pids.join(""));
      expect(service.lines.filter(({ event }) => event === "connection")).toHaveLength(1);
    },
  );
}

function isInstalled(program: string): boolean {
  try {
    execFileSync("which", [program], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

function fileOf(name: string, text: string): string {
  const file = join(temporaryDirectory(), name);
  writeFileSync(file, text);
  return file;
}
