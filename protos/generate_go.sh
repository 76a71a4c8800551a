#!/bin/sh
# Writes the Go stubs from the protos. Run by `make stubs` where Go is installed; the plugins are of the versions in
# buf.gen.yaml.
# Usage: protos/generate_go.sh BUF OUT
set -eu
protos=$(dirname "$0")
mkdir -p "$2/shortlist/v1"
find "$2/shortlist/v1" -name '*.pb.go' -delete
"$1" generate "$protos" --template "$protos/buf.gen.yaml" --output "$2"
