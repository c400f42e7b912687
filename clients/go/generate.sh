#!/usr/bin/env bash
# Makes expertdv1/ anew from the contract. Needs Go and protoc; the generators are installed into build/gobin.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
export GOBIN="$root/build/gobin"
go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.6
go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
out=${1:-.}
mkdir -p "$out"
PATH="$GOBIN:$PATH" protoc -I"$root/api" --go_out="$out" --go_opt=module=github.com/expertd/expertd/clients/go \
  --go-grpc_out="$out" --go-grpc_opt=module=github.com/expertd/expertd/clients/go "$root"/api/expertd/v1/*.proto
# The generators' versions stand in them; protoc's, which differs from machine to machine, need not.
sed -i '/^\/\/ *-\? *protoc  *v/d' "$out"/expertdv1/*.go
