#!/usr/bin/env bash
# Runs the tests that touch what Node does not document on newer Nodes, with the addon built for this one.
#
#   npm run test:nodes [-- test/connections …]
set -euo pipefail
cd "$(dirname "$0")/.."
tests=("$@")
((${#tests[@]})) || tests=(test/core test/sockets test/connections test/websocket test/exchange test/state test/platform test/faults test/process/compile-cache.test.ts test/process/typescript.test.ts)
case "$(uname -m)" in x86_64) machine=x64 ;; aarch64) machine=arm64 ;; *) machine=$(uname -m) ;; esac
nodes=$(mktemp -d)
# A test starts Node as another user.
chmod 755 "$nodes"
trap 'rm -rf "$nodes"' EXIT
for major in 22 24; do
  npm install --silent --no-save --prefix "$nodes/$major" "node-linux-$machine@$major"
  node="$nodes/$major/node_modules/node-linux-$machine/bin/node"
  echo "Node $("$node" --version)"
  "$node" node_modules/vitest/vitest.mjs run "${tests[@]}"
done
