#!/usr/bin/env bash
# Builds the agent and its launcher as static binaries and prints the agent's path as the last line.
#   packaging/build-static.sh [--hub] [target-triple]
#     --hub    the hub and genesisctl in their place; the hub's path is then the last line
# The musl target is used where it is installed (rustup target add x86_64-unknown-linux-musl); elsewhere the gnu target
# with a static C library, which gives a static-pie binary. Names are resolved by the binary itself (hickory-dns), so
# neither needs the system's resolver library.
set -euo pipefail
cd "$(dirname "$0")/.."

arch=$(rustc -vV | sed -n 's/^host: \([^-]*\)-.*/\1/p')
musl=$arch-unknown-linux-musl
gnu=$arch-unknown-linux-gnu
libdir() { rustc --print target-libdir --target "$1" 2>/dev/null; }

packages=(genesis-agent genesis-launcher)
if [ "${1:-}" = --hub ]; then
  packages=(genesis-hub genesisctl)
  shift
fi
target=${1:-}
if [ -z "$target" ]; then
  if [ -d "$(libdir "$musl")" ] && command -v musl-gcc >/dev/null; then target=$musl; else target=$gnu; fi
fi
# What ships must not be able to switch a check of the rules for trust off.
if cargo tree --locked --target "$target" -p "${packages[0]}" -e normal,features -f '{p} {f}' | grep -wE 'mutants|sim|unproven' >&2; then
  echo "${packages[0]} would be built with a feature that is for tests only" >&2
  exit 1
fi
# What the journal does not use of SQLite is a twentieth of the binary.
export LIBSQLITE3_FLAGS="-USQLITE_ENABLE_FTS3 -USQLITE_ENABLE_FTS3_PARENTHESIS -USQLITE_ENABLE_FTS5 -USQLITE_ENABLE_RTREE
  -USQLITE_ENABLE_DBSTAT_VTAB -USQLITE_ENABLE_STAT4 -USQLITE_SOUNDEX -USQLITE_ENABLE_LOAD_EXTENSION"
export RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static"
# Each by itself: together, one would get the features that another asks for.
for package in "${packages[@]}"; do
  cargo build --locked --profile dist --target "$target" -p "$package" --bin "$package" >&2
done

folder=$PWD/${CARGO_TARGET_DIR:-target}/$target/dist
case ${CARGO_TARGET_DIR:-} in /*) folder=$CARGO_TARGET_DIR/$target/dist ;; esac
for package in "${packages[@]}"; do
  # ldd fails on a static binary, or says "statically linked"; anything else is a dependency.
  if ldd "$folder/$package" 2>&1 | grep -qvE 'statically linked|not a dynamic executable'; then
    echo "$folder/$package is not static:" >&2
    ldd "$folder/$package" >&2
    exit 1
  fi
  echo "$package: $(stat -c %s "$folder/$package") bytes, static, for $target" >&2
done
echo "$folder/${packages[0]}"
