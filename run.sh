#!/usr/bin/env bash
# Builds expertd, serves the bundled model, streams one answer and stays until Ctrl-C.
# Environment: GRPC_PORT (50051), REST_PORT (8000), METRICS_PORT (9464). Arguments go to `expertd serve`; a first
# argument that is a folder is the model to serve instead of the bundled one.
set -euo pipefail
model=models/expertd-tiny
if [[ $# -gt 0 && $1 != -* ]]; then
  [[ -d $1 ]] || { echo "run.sh: there is no model folder '$1'" >&2; exit 2; }
  model=$(realpath "$1")
  shift
fi
cd "$(dirname "$0")"
source .ci/packages.sh

key_file=()
rest_port=${REST_PORT:-8000}  # empty without REST
for ((i = 1; i <= $#; ++i)); do
  case ${!i//_/-} in
    --grpc-listen | --grpc-listen=*) echo "run.sh: set GRPC_PORT=... instead of --grpc-listen" >&2; exit 2 ;;
    --metrics-listen | --metrics-listen=*) echo "run.sh: set METRICS_PORT=... instead of --metrics-listen" >&2; exit 2 ;;
    --no-rest) rest_port= ;;
    --port | --port=*) echo "run.sh: set REST_PORT=... instead of --port" >&2; exit 2 ;;
    --ssl-*) echo "run.sh speaks without TLS; build it, then call \`expertd serve\` yourself" >&2; exit 2 ;;
    --api-key-file) next=$((i + 1)); key_file=(--api-key-file "${!next:-}") ;;
    --api-key-file=*) key_file=(--api-key-file "${!i#*=}") ;;
  esac
done
grpc_port=${GRPC_PORT:-50051}
metrics_port=${METRICS_PORT:-9464}

# Another server's readiness must not pass for this one's.
for port in "$grpc_port" $rest_port "$metrics_port"; do
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    echo "run.sh: port $port is in use; choose others with GRPC_PORT=..., REST_PORT=... and METRICS_PORT=..." >&2
    exit 2
  fi
done

mkdir -p build
install_missing "${BUILD_PACKAGES[@]}"
configure release -DEXPERTD_TESTS=OFF
cmake --build --preset release --target expertd

expertd=build/release/bin/expertd
"$expertd" serve "$model" --grpc-listen "127.0.0.1:$grpc_port" --metrics-listen "127.0.0.1:$metrics_port" \
  --port "${rest_port:-0}" "$@" &
server=$!
# A signal becomes the server's, which drains; Ctrl-C reaches it by itself too, and a second one ends it at once.
trap 'kill -TERM $server 2>/dev/null || true; wait $server || true; exit 0' INT TERM

# The server's own word that it is ready, or its end.
until curl -fs "http://127.0.0.1:$metrics_port/metrics" 2>/dev/null | grep -q '^expertd_ready.* 1$'; do
  if ! kill -0 $server 2>/dev/null; then
    wait $server || exit $?
    exit 1
  fi
  sleep 0.2
done
kill -0 $server 2>/dev/null || { wait $server; exit 1; }
question="Hello! Please tell me a short story about a cat."
echo
echo "> $question"
"$expertd" chat --target "127.0.0.1:$grpc_port" "${key_file[@]}" --once --stats --prompt "$question" ||
  echo "(no answer in chat; the server goes on)"
cat <<END

expertd serves $model
  gRPC     127.0.0.1:$grpc_port
${rest_port:+  page     http://127.0.0.1:$rest_port
  REST     http://127.0.0.1:$rest_port/v1
}  metrics  http://127.0.0.1:$metrics_port/metrics
  talk     $expertd chat --target 127.0.0.1:$grpc_port ${key_file[*]}
Ctrl-C stops it.
END
wait $server
