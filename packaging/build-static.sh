#!/usr/bin/env bash
# Builds the agent as one static binary and prints its path as the last line.
#   packaging/build-static.sh [target-triple]
# The musl target is used where it is installed (rustup target add x86_64-unknown-linux-musl); elsewhere the gnu target
# with a static C library, which gives a static-pie binary. Names are resolved by the binary itself (hickory-dns), so
# neither needs the system's resolver library.
set -euo pipefail
cd "$(dirname "$0")/.."

arch=$(rustc -vV | sed -n 's/^host: \([^-]*\)-.*/\1/p')
musl=$arch-unknown-linux-musl
gnu=$arch-unknown-linux-gnu
libdir() { rustc --print target-libdir --target "$1" 2>/dev/null; }

target=${1:-}
if [ -z "$target" ]; then
  if [ -d "$(libdir "$musl")" ] && command -v musl-gcc >/dev/null; then target=$musl; else target=$gnu; fi
fi
# What ships must not be able to switch a check of the rules for trust off.
if cargo tree --locked --target "$target" -p genesis-agent -e normal,features -f '{p} {f}' | grep -wE 'mutants|sim|unproven' >&2; then
  echo "genesis-agent would be built with a feature that is for tests only" >&2
  exit 1
fi
# What the journal does not use of SQLite is a twentieth of the binary.
export LIBSQLITE3_FLAGS="-USQLITE_ENABLE_FTS3 -USQLITE_ENABLE_FTS3_PARENTHESIS -USQLITE_ENABLE_FTS5 -USQLITE_ENABLE_RTREE
  -USQLITE_ENABLE_DBSTAT_VTAB -USQLITE_ENABLE_STAT4 -USQLITE_SOUNDEX -USQLITE_ENABLE_LOAD_EXTENSION"
export RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static"
cargo build --locked --profile dist --target "$target" -p genesis-agent --bin genesis-agent >&2

binary=$PWD/${CARGO_TARGET_DIR:-target}/$target/dist/genesis-agent
case ${CARGO_TARGET_DIR:-} in /*) binary=$CARGO_TARGET_DIR/$target/dist/genesis-agent ;; esac
# ldd fails on a static binary, or says "statically linked"; anything else is a dependency.
if ldd "$binary" 2>&1 | grep -qvE 'statically linked|not a dynamic executable'; then
  echo "$binary is not static:" >&2
  ldd "$binary" >&2
  exit 1
fi
echo "$(stat -c %s "$binary") bytes, static, for $target" >&2
echo "$binary"
