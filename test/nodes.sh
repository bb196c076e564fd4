#!/usr/bin/env bash
# Runs the tests that touch what Node does not document on newer Nodes, with the addon built for this one.
set -euo pipefail
cd "$(dirname "$0")/.."
nodes=$(mktemp -d)
trap 'rm -rf "$nodes"' EXIT
for major in 22 24; do
  npm install --silent --no-save --prefix "$nodes/$major" "node-linux-$(uname -m | sed 's/x86_64/x64/;s/aarch64/arm64/')@$major"
  node=$(echo "$nodes/$major"/node_modules/node-linux-*/bin/node)
  echo "Node $("$node" --version)"
  "$node" node_modules/vitest/vitest.mjs run "${@:-test/upgrade test/listen test/bind test/drain test/native}"
done
