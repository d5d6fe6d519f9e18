#!/usr/bin/env bash
# Generates client_sdk/kinrec/{v1,bundle/v1} and docs/api.md from protos/. With --check, compares instead
# of writing.
set -euo pipefail
cd "$(dirname "$0")/.."
gen=.venv-gen/bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
out=client_sdk
page=docs/api.md
if [ "${1:-}" = --check ]; then
    out=$work
    page=$work/api.md
fi

protoc() {
    "$gen/python" -m grpc_tools.protoc -I protos "$@" 2> >(grep -v '^Writing mypy' >&2)
}

protoc --python_out="$out" --plugin=protoc-gen-mypy="$gen/protoc-gen-mypy" --mypy_out="$out" \
    protos/kinrec/v1/*.proto protos/kinrec/bundle/v1/*.proto
# Only the wire contract has a service; the engine reads manifests without grpc.
protoc --grpc_python_out="$out" --plugin=protoc-gen-mypy_grpc="$gen/protoc-gen-mypy_grpc" \
    --mypy_grpc_out="$out" protos/kinrec/v1/*.proto
protoc --include_source_info --descriptor_set_out="$work/api.binpb" protos/kinrec/v1/*.proto
"$gen/python" scripts/api_docs.py "$work/api.binpb" "$page" 2> "$work/said" ||
    { cat "$work/said" >&2; exit 1; }

if [ "$out" != client_sdk ]; then
    for package in v1 bundle; do
        diff --recursive --exclude=__pycache__ --exclude=py.typed \
            "$out/kinrec/$package" "client_sdk/kinrec/$package" ||
            { echo "generated code is out of date: run 'make protos'" >&2; exit 1; }
    done
    diff "$page" docs/api.md ||
        { echo "docs/api.md is out of date: run 'make protos'" >&2; exit 1; }
fi
