import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, onTestFinished, test } from "vitest";
import { selfSigned } from "../support/client.js";
import { isMissing } from "../support/installed.js";
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

const GO = `
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	config := &tls.Config{InsecureSkipVerify: true}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	for _, path := range os.Args[2:] {
		response, err := client.Get("https://127.0.0.1:" + os.Args[1] + path)
		if err != nil {
			panic(err)
		}
		text, _ := io.ReadAll(response.Body)
		response.Body.Close()
		fmt.Println(string(text))
	}
}
`;

interface HttpsClient {
  /** Of its command. */
  program: string;
  /** Asks for paths one after another, on one connection; the answers, perhaps without anything between them. */
  ask: (port: string, paths: string[]) => Promise<string>;
}

const CLIENTS: Record<string, HttpsClient> = {
  curl: {
    program: "curl",
    ask: (port, paths) => output("curl", "-sk", "-w", "\n", ...urls(port, paths)),
  },
  "Python's ssl": {
    program: "python3",
    ask: (port, paths) => output("python3", "-c", PYTHON, port, ...paths),
  },
  "wget, of GnuTLS,": {
    program: "wget",
    ask: (port, paths) => output("wget", "-qO-", "--no-check-certificate", ...urls(port, paths)),
  },
  Java: {
    program: "java",
    ask: (port, paths) => output("java", fileOf("Client.java", JAVA), port, ...paths),
  },
  Go: {
    program: "go",
    ask: (port, paths) => output("go", "run", fileOf("client.go", GO), port, ...paths),
  },
  "NSS, which is Firefox's,": { program: "tstclnt", ask: askByNss },
};

/** A request that has arrived before its connection could move is answered by the predecessor. */
const PATHS = ["/", "/when-draining", "/", "/", "/", "/when-draining", "/", "/", "/"];

for (const [name, { program, ask }] of Object.entries(CLIENTS)) {
  test.skipIf(isMissing(program))(`${name} keeps its connection over two upgrades (${program})`, async () => {
    const service = Service.start("any-protocol.js", {
      settings: { ...brief, ...selfSigned(), protocol: "https" },
    });
    const { port } = await service.until("accepting");
    const answers = ask(String(port), PATHS);
    for (let generation = 0; generation < 2; generation++) {
      await service.until("request", { generation, url: "/when-draining" });
      await service.replace();
      expect(await service.until("exit", { generation })).toMatchObject({ moved: 1, stayed: {} });
    }
    const pids = service.lines.filter(({ event }) => event === "request").map(({ pid }) => pid);
    expect(pids).toHaveLength(PATHS.length);
    expect((await answers).replaceAll(/\s/g, "")).toBe(pids.join(""));
    expect(service.lines.filter(({ event }) => event === "connection")).toHaveLength(1);
  });
}

async function output(program: string, ...words: string[]): Promise<string> {
  // Go compiles outside of modules, and keeps the result until the end of the test.
  const env = { ...process.env, GO111MODULE: "off", GOCACHE: temporaryDirectory() };
  return (await run(program, words, { env })).stdout;
}

function urls(port: string, paths: string[]): string[] {
  return paths.map((path) => `https://127.0.0.1:${port}${path}`);
}

/** NSS's own client sends what it is given, and prints what it receives. */
async function askByNss(port: string, paths: string[]): Promise<string> {
  const words = ["-D", "-o", "-V", "tls1.3:tls1.3", "-h", "127.0.0.1", "-p", port];
  const client = spawn("tstclnt", words, { stdio: ["pipe", "pipe", "ignore"] });
  onTestFinished(() => void client.kill());
  let [shown, answers] = ["", ""];
  client.stdout.setEncoding("utf8").on("data", (text: string) => (shown += text));
  for (const path of paths) {
    client.stdin.write(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`);
    let whole: RegExpExecArray | null;
    while ((whole = WHOLE.exec(shown)) === null || whole[2]!.length < Number(whole[1])) {
      const [ended] = await Promise.race([once(client.stdout, "data"), once(client, "exit").then(() => [])]);
      if (ended === undefined) throw new Error(`tstclnt has ended: ${shown}`);
    }
    answers += whole[2];
    shown = "";
  }
  return answers;
}

/** A response: the length of its body, and the body. */
const WHOLE = /content-length: (\d+)[^]*?\r\n\r\n([^]*)$/i;

function fileOf(name: string, text: string): string {
  const file = join(temporaryDirectory(), name);
  writeFileSync(file, text);
  return file;
}
