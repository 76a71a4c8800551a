#!/bin/sh
# Writes the TypeScript stubs: of the protos, and of what gRPC and Google define that the client reads. Run by
# `make stubs` where Node is installed; the plugin comes from `npm ci` in clients/typescript.
# Usage: protos/generate_typescript.sh BUF OUT
set -eu
mkdir -p "$2"
out=$(cd "$2" && pwd)
find "$out" -name '*_pb.ts' -delete
buf=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")/.."
"$buf" generate --template protos/buf.gen.typescript.yaml --output "$out"
