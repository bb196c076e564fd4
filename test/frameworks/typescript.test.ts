import { AUTO, testUpgrades } from "./application.js";

testUpgrades("TypeScript by tsx", { directory: "typescript", args: ["--import", "tsx", "server.ts"] });
testUpgrades("TypeScript by tsx, unchanged", {
  directory: "typescript",
  args: ["--import", "tsx", ...AUTO, "plain.ts"],
});
testUpgrades("TypeScript by ts-node", {
  directory: "ts-node",
  args: ["--require", "ts-node/register/transpile-only", "server.ts"],
});
testUpgrades("TypeScript by ts-node, unchanged", {
  directory: "ts-node",
  args: ["--require", "ts-node/register/transpile-only", "--require", "handover/auto", "plain.ts"],
});

const strips = Boolean((process.features as { typescript?: unknown }).typescript);
testUpgrades("TypeScript by Node", { directory: "typescript", args: ["server.ts"], needs: strips });
testUpgrades("TypeScript by Node, unchanged", {
  directory: "typescript",
  args: [...AUTO, "plain.ts"],
  needs: strips,
});
