#!/usr/bin/env bash
# Generates client_sdk/kinrec/{v1,bundle/v1} from protos/. With --check, compares instead of writing.
set -euo pipefail
cd "$(dirname "$0")/.."
gen=.venv-gen/bin
out=client_sdk
if [ "${1:-}" = --check ]; then
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
fi

protoc() {
    "$gen/python" -m grpc_tools.protoc -I protos "$@" 2> >(grep -v '^Writing mypy' >&2)
}

protoc --python_out="$out" --plugin=protoc-gen-mypy="$gen/protoc-gen-mypy" --mypy_out="$out" \
    protos/kinrec/v1/*.proto protos/kinrec/bundle/v1/*.proto
# Only the wire contract has a service; the engine reads manifests without grpc.
protoc --grpc_python_out="$out" --plugin=protoc-gen-mypy_grpc="$gen/protoc-gen-mypy_grpc" \
    --mypy_grpc_out="$out" protos/kinrec/v1/*.proto

if [ "$out" != client_sdk ]; then
    for package in v1 bundle; do
        diff --recursive --exclude=__pycache__ --exclude=py.typed \
            "$out/kinrec/$package" "client_sdk/kinrec/$package" ||
            { echo "generated code is out of date: run 'make protos'" >&2; exit 1; }
    done
fi
