import { execFileSync } from "node:child_process";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryDirectory } from "./service.js";

/** An authority of its own, and what it has signed: a certificate of 127.0.0.1, which a client may use, too. */
export class Certificates {
  readonly authority: string;
  readonly certificate: string;
  readonly key: string;

  constructor() {
    const directory = temporaryDirectory();
    // Another user has to read them.
    chmodSync(directory, 0o755);
    const file = (name: string): string => join(directory, name);
    const openssl = (...args: string[]): void =>
      void execFileSync("openssl", args, { stdio: "ignore", cwd: directory });
    this.authority = file("ca.crt");
    this.certificate = file("one.crt");
    this.key = file("one.key");
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    openssl("req", "-x509", ...key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=authority");
    openssl("req", ...key, "-keyout", "one.key", "-out", "one.csr", "-subj", "/CN=one");
    writeFileSync(file("names"), "subjectAltName=IP:127.0.0.1\n");
    const signing = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"];
    openssl("x509", "-req", "-in", "one.csr", ...signing, "-out", "one.crt");
    chmodSync(this.key, 0o644);
  }

  /** Options of `tls.connect()`. */
  get client(): { ca: string; cert: string; key: string } {
    const [ca, cert, key] = [this.authority, this.certificate, this.key].map((file) =>
      readFileSync(file, "utf8"),
    );
    return { ca: ca!, cert: cert!, key: key! };
  }
}
