# Sourced by run.sh and test.sh: Debian packages, and how to install those that are missing.

# What building and serving need.
BUILD_PACKAGES=(
  build-essential cmake ninja-build pkg-config git ca-certificates curl
  libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc libabsl-dev libssl-dev
  prometheus-cpp-dev libsentencepiece-dev nlohmann-json3-dev libcli11-dev
  libpcre2-dev libutf8proc-dev libxxhash-dev libboost-dev
)
# What the tests need beside that.
TEST_PACKAGES=(libgtest-dev libgmock-dev libbenchmark-dev libopenblas-dev python3 python3-venv npm chromium)

# as_root COMMAND...: runs it as root, by sudo where that is needed.
as_root() {
  if [[ $(id -u) -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

# install_missing PACKAGE...: installs what dpkg does not know as installed; does nothing when all are there.
install_missing() {
  local missing=() package
  for package in "$@"; do
    # A tool that is there without its package (npm, python3 from elsewhere) is as good.
    if [[ $package == npm || $package == python3 ]] && command -v "$package" >/dev/null; then continue; fi
    if [[ $package == python3-venv ]] && python3 -c 'import ensurepip' 2>/dev/null; then continue; fi
    dpkg-query -W -f='${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
  done
  [[ ${#missing[@]} -eq 0 ]] && return
  if [[ $(id -u) -ne 0 ]] && ! command -v sudo >/dev/null; then
    echo "missing packages: ${missing[*]}; install them as root" >&2
    return 1
  fi
  echo "installing ${missing[*]}"
  as_root apt-get update -q >/dev/null
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
}

# extract_package PACKAGE FOLDER: the package's files under a folder of ours: nothing is installed, no service starts.
extract_package() {
  mkdir -p "$2"
  (cd "$2" && { apt-get download -q "$1" || { as_root apt-get update -q && apt-get download -q "$1"; }; } &&
    dpkg-deb -x "$1"_*.deb . && rm "$1"_*.deb)
}

# configure PRESET [CMake argument...]: configures once; CMake configures again by itself when its files change.
configure() {
  local preset=$1
  shift
  [[ -f build/$preset/build.ninja ]] || cmake --preset "$preset" "$@" >"build/$preset.log" 2>&1 ||
    { cat "build/$preset.log" >&2; return 1; }
}
