#!/usr/bin/env bash
# Builds and runs the whole suite: CTest (release, then the unit tests under ASan and UBSan) and pytest.
# Prints one summary line for each and exits non-zero when any failed.
# With --clients: only what other people's clients make of the server (tests/clients), which takes large packages.
set -uo pipefail
cd "$(dirname "$0")"
source .ci/packages.sh
mkdir -p build/go

failed=0
summary=()

# step NAME COMMAND...: runs a command, keeps its output in build/NAME.log, shows its end when it fails.
step() {
  local name=$1 log="build/$1.log" start=$SECONDS
  shift
  echo "== $name"
  if "$@" >"$log" 2>&1; then
    return 0
  fi
  failed=1
  tail -n 80 "$log"
  summary+=("$name: FAILED after $((SECONDS - start)) s (build/$name.log)")
  return 1
}

# ctest_preset PRESET: its closing lines become a line of the summary.
ctest_preset() {
  local name="ctest-$1" start=$SECONDS
  step "$name" ctest --preset "$1" || true
  summary+=("CTest $1: $(grep -E '^[0-9]+% tests passed' "build/$name.log" || echo 'did not finish') ($((SECONDS - start)) s)")
}

# python_environment REQUIREMENTS FOLDER: a virtual environment, made anew when its list of packages changes.
python_environment() {
  local wanted
  wanted=$(sha256sum "$1" | cut -d' ' -f1)
  [[ -f $2/stamp && $(<"$2/stamp") == "$wanted" ]] && return
  rm -rf "$2"
  mkdir -p "$2" && python3 -m venv "$2" && "$2/bin/pip" install -q -r "$1" && echo "$wanted" >"$2/stamp"
}

# run_pytest PYTHON ARGUMENT...: its last line becomes a line of the summary.
run_pytest() {
  local start=$SECONDS
  echo "== pytest"
  "$1" -m pytest -q -p no:cacheprovider "${@:2}" 2>&1 | tee build/pytest.log | tail -n 60
  [[ ${PIPESTATUS[0]} -eq 0 ]] || failed=1
  summary+=("pytest: $(tail -n 1 build/pytest.log) ($((SECONDS - start)) s)")
}

# What vLLM's benchmark measures with: one file of its package, which needs nothing else of it.
VLLM_VERSION=0.33.0
vllm_environment() {
  local folder=build/clients/vllm file=vllm/benchmarks/lib/endpoint_request_func.py
  [[ -f $folder/$file ]] && return
  mkdir -p "$folder" &&
    build/clients/venv/bin/pip download -q --no-deps --only-binary :all: --dest "$folder" "vllm==$VLLM_VERSION" &&
    python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract(sys.argv[2], sys.argv[3])' \
      "$folder"/vllm-*.whl "$file" "$folder" && rm "$folder"/vllm-*.whl
}

finish() {
  command -v go >/dev/null || summary+=("Go is not installed: the tests that need it or its tools were skipped")
  echo
  printf '%s\n' "${summary[@]}"
  exit $failed
}

# buf, the linter of the contract, from npm.
BUF_VERSION=1.75.0
node_environment() {
  [[ -x build/node/node_modules/.bin/buf && $(build/node/node_modules/.bin/buf --version) == "$BUF_VERSION" ]] && return
  mkdir -p build/node && npm install --prefix build/node --no-audit --no-fund --silent "@bufbuild/buf@$BUF_VERSION"
}

# go_environment NAME TOOL...: tools from the Go proxy; tests that need them are skipped where Go is not installed.
MANIFEST_TOOLS=(sigs.k8s.io/kustomize/kustomize/v5@v5.4.3 github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0)
CLIENT_TOOLS=(github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4 github.com/bojand/ghz/cmd/ghz@v0.93.0
  github.com/grpc-ecosystem/grpc-health-probe@v0.4.61)
go_environment() {
  local stamp="build/go/$1.stamp" tool
  shift
  command -v go >/dev/null || return 0
  [[ -f $stamp && $(<"$stamp") == "$*" ]] && return
  for tool in "$@"; do GOBIN=$PWD/build/go/bin go install "$tool" || return; done
  echo "$*" >"$stamp"
}

# The packages of tests/clients for Node; modules are looked for beside the script that imports them.
client_node_environment() {
  mkdir -p build/clients/node
  cp tests/clients/{package.json,package-lock.json,.npmrc,openai_node.mjs} build/clients/node
  [[ build/clients/node/node_modules/.package-lock.json -nt tests/clients/package-lock.json ]] ||
    npm ci --prefix build/clients/node --no-audit --no-fund --silent
}

# promtool and Prometheus itself.
promtool_environment() {
  command -v promtool >/dev/null || [[ -x build/prometheus/usr/bin/promtool ]] && return
  extract_package prometheus build/prometheus
}

# nghttpx, the front of k8s/overlays/guarded, and the libraries it needs.
nghttpx_environment() {
  command -v nghttpx >/dev/null || [[ -x build/nghttpx/usr/sbin/nghttpx ]] && return
  local package
  for package in libc-ares2 libev4 libjemalloc2 libnghttp2-14 nghttp2-proxy; do
    extract_package "$package" build/nghttpx || return
  done
}

step packages install_missing "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}" || exit 1
# A build folder of run.sh has the tests switched off.
if grep -qs 'EXPERTD_TESTS:BOOL=OFF' build/release/CMakeCache.txt; then cmake --preset release -DEXPERTD_TESTS=ON >/dev/null; fi
step configure-release configure release

if [[ ${1-} == --clients ]]; then
  step build-release cmake --build --preset release --target expertd
  if step python-clients python_environment tests/clients/requirements.txt build/clients/venv &&
    step vllm vllm_environment && step node-clients client_node_environment &&
    step go-clients go_environment clients "${CLIENT_TOOLS[@]}"; then
    run_pytest build/clients/venv/bin/python tests/clients
  fi
  finish
fi

step build-release cmake --build --preset release && ctest_preset release
step configure-asan configure asan
step build-asan cmake --build --preset asan --target unit_tests && ctest_preset asan
if step python python_environment tests/requirements.txt build/venv && step node node_environment &&
  step go go_environment manifests "${MANIFEST_TOOLS[@]}" && step promtool promtool_environment &&
  step nghttpx nghttpx_environment; then
  run_pytest build/venv/bin/python tests --ignore tests/clients
fi
finish
