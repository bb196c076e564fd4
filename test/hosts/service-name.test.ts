import { expect, test } from "vitest";
import { etcd } from "../../dist/etcd/index.js";
import { kubernetesLease } from "../../dist/kubernetes/index.js";
import { postgres } from "../../dist/postgres/index.js";

test.each([
  ["postgres()", (service: string) => postgres({ service, url: "postgres://127.0.0.1/a" })],
  ["etcd()", (service: string) => etcd({ service, endpoints: ["http://127.0.0.1:2379"] })],
  ["kubernetesLease()", (service: string) => kubernetesLease({ service })],
])(
  "%s refuses a service without a name, with a name that is too long, and with one that has a NUL",
  (_, make) => {
    const refused =
      /^the option "service" must be a (?:name of at most 200 characters|string that is not empty), not/;
    for (const service of [undefined, 1, "", "a".repeat(201), "a\0b"])
      expect(() => make(service as string)).toThrow(
        expect.objectContaining({ code: "ERR_OPTION", message: expect.stringMatching(refused) as string }),
      );
    expect(() => make("a".repeat(200))).not.toThrow();
  },
);
