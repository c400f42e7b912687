#!/usr/bin/env bash
# Builds and runs the whole suite: CTest (release, then the unit tests under ASan and UBSan) and pytest.
# Prints one summary line for each and exits non-zero when any failed.
set -uo pipefail
cd "$(dirname "$0")"
source .ci/packages.sh
mkdir -p build

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

# The Python packages of the tests, in a virtual environment under build/, made anew when their list changes.
python_environment() {
  local wanted
  wanted=$(sha256sum tests/requirements.txt | cut -d' ' -f1)
  [[ -f build/venv/stamp && $(<build/venv/stamp) == "$wanted" ]] && return
  rm -rf build/venv
  python3 -m venv build/venv && build/venv/bin/pip install -q -r tests/requirements.txt &&
    echo "$wanted" >build/venv/stamp
}

# buf, the linter of the contract, from npm.
BUF_VERSION=1.75.0
node_environment() {
  [[ -x build/node/node_modules/.bin/buf && $(build/node/node_modules/.bin/buf --version) == "$BUF_VERSION" ]] && return
  mkdir -p build/node && npm install --prefix build/node --no-audit --no-fund --silent "@bufbuild/buf@$BUF_VERSION"
}

# kustomize and kubeconform, for k8s/, from the Go proxy; tests that need them are skipped where Go is not installed.
GO_TOOLS=(sigs.k8s.io/kustomize/kustomize/v5@v5.4.3 github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0)
go_environment() {
  command -v go >/dev/null || return 0
  [[ -f build/go/stamp && $(<build/go/stamp) == "${GO_TOOLS[*]}" ]] && return
  local tool
  for tool in "${GO_TOOLS[@]}"; do GOBIN=$PWD/build/go/bin go install "$tool" || return; done
  echo "${GO_TOOLS[*]}" >build/go/stamp
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
step build-release cmake --build --preset release && ctest_preset release
step configure-asan configure asan
step build-asan cmake --build --preset asan --target unit_tests && ctest_preset asan
if step python python_environment && step node node_environment && step go go_environment &&
  step promtool promtool_environment && step nghttpx nghttpx_environment; then
  echo "== pytest"
  start=$SECONDS
  build/venv/bin/python -m pytest -q -p no:cacheprovider tests 2>&1 | tee build/pytest.log | tail -n 60
  [[ ${PIPESTATUS[0]} -eq 0 ]] || failed=1
  summary+=("pytest: $(tail -n 1 build/pytest.log) ($((SECONDS - start)) s)")
fi

command -v go >/dev/null || summary+=("Go is not installed: tests that render the manifests of k8s/ were skipped")
echo
printf '%s\n' "${summary[@]}"
exit $failed
