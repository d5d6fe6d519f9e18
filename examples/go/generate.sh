#!/bin/sh
# Generates pb/ from the protos; needs protoc, protoc-gen-go and protoc-gen-go-grpc.
set -eu
cd "$(dirname "$0")"
mkdir -p pb
to=module=example.com/recommend
from=Mkinrec/v1/recommender.proto=example.com/recommend/pb
protoc --proto_path=../../protos --go_out=. --go_opt=$to --go_opt=$from \
	--go-grpc_out=. --go-grpc_opt=$to --go-grpc_opt=$from kinrec/v1/recommender.proto
