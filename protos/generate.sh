#!/bin/sh
# Writes the Python stubs from the protos. Run by `make stubs`, in an environment of its own: grpcio-tools 1.71.2
# generates code that protobuf 5.29 and later can import, but itself needs protobuf < 6.
# Usage: protos/generate.sh PYTHON OUT
set -eu
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
mkdir -p "$2/shortlist/v1"
out=$(cd "$2" && pwd)
cd "$(dirname "$0")"
find "$out/shortlist" -name '*_pb2*' -delete
PATH="$(dirname "$python"):$PATH" "$python" -m grpc_tools.protoc --proto_path=. \
  --python_out="$out" --grpc_python_out="$out" --mypy_out="$out" --mypy_grpc_out="$out" \
  --include_source_info --descriptor_set_out="$out/descriptors.bin" shortlist/v1/*.proto
# The stubs forget the comments, which the OpenAPI description repeats.
"$python" comments.py < "$out/descriptors.bin" > "$out/shortlist/v1/comments.json"
rm "$out/descriptors.bin"
for package in shortlist shortlist/v1; do
  : > "$out/$package/__init__.py"
done
: > "$out/shortlist/py.typed"
