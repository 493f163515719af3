# Shared by ci/quickstart and ci/test: what a newcomer's machine needs, and how it comes there. Sourced, not run.
# Overridable for tests: LUQUAL_OS_RELEASE (the os-release file), PATH (apt-get, dpkg-query, sudo, id).

# QEMU, what a kernel build needs (see orchestrator/kernels/src/tools.rs), and what cargo links with and rustup is
# fetched by.
packages=(qemu-system-x86 build-essential flex bison bc libelf-dev lz4 curl ca-certificates)

die() {
  printf '%s: %s\n' "$(basename "$0")" "$1" >&2
  exit 1
}

# Debian 12 or Ubuntu 24.04, or later, on x86-64.
check_system() {
  local release=${LUQUAL_OS_RELEASE:-/etc/os-release} id version
  id=$(. "$release" 2>/dev/null && printf %s "${ID:-}") || true
  version=$(. "$release" 2>/dev/null && printf %s "${VERSION_ID:-0}") || true
  case "$id" in
    debian) [ "${version%%.*}" -ge 12 ] || die "Debian $version is too old: 12 or later" ;;
    ubuntu) [ "${version%%.*}" -ge 24 ] || die "Ubuntu $version is too old: 24.04 or later" ;;
    *) die "this is neither Debian nor Ubuntu: install the likes of ${packages[*]} and Rust $(rust_version), then run it with --no-install" ;;
  esac
  [ "$(uname -m)" = x86_64 ] || die "luqual runs on x86-64 hosts, this is $(uname -m)"
}

missing_packages() {
  local package
  for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf '%s\n' "$package"
  done
}

install_packages() {
  local missing as_root=()
  mapfile -t missing < <(missing_packages)
  [ ${#missing[@]} -gt 0 ] || return 0
  echo "installing: ${missing[*]}"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "run this as root, then start again: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# The oldest Rust that the workspace is built with.
rust_version() {
  sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml
}

install_rust() {
  local wanted found
  wanted=$(rust_version)
  PATH="$HOME/.cargo/bin:$PATH"
  export PATH
  found=$(rustc --version 2>/dev/null | cut -d' ' -f2) || true
  if [ -n "$found" ] && [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" = "$wanted" ] && command -v cargo >/dev/null; then
    return 0
  fi
  echo "installing Rust by rustup (found: ${found:-none}, needed: $wanted or later)"
  if command -v rustup >/dev/null; then
    rustup toolchain install stable --profile minimal --component clippy,rustfmt
    export RUSTUP_TOOLCHAIN=stable
  else
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --component clippy,rustfmt --no-modify-path
  fi
}

# The folder of kernels and downloads; as in orchestrator/kernels/src/store.rs.
cache_folder() {
  printf '%s/luqual' "${XDG_CACHE_HOME:-$HOME/.cache}"
}

check_disk() {
  local folder free
  for folder in "$(cache_folder)" "$PWD"; do
    while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
    free=$(df -Pm "$folder" | awk 'NR==2 {print $4}')
    [ "$free" -ge "$1" ] || die "$folder has $free MiB free, $1 are needed"
  done
}

# The luqual that LUQUAL names, or one that is built here with what it needs.
find_luqual() {
  [ -z "${LUQUAL:-}" ] || return 0
  local root
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  LUQUAL=$root/target/release/luqual
  pushd "$root" >/dev/null
  check_system
  install_packages
  install_rust
  cargo build --release --locked --package luqual
  popd >/dev/null
}
