#!/usr/bin/env bash
# Runs everything: formatting, lints, all tests, the tests against the real n8n too. The one front door for checks.
#   tests/run.sh [--no-skip] [FILTER…]
#     --no-skip     fail where something that a test needs is missing, instead of leaving the test out
#     FILTER…       only tests whose name contains one of these (formatting and lints are then left out)
# What is missing is installed where it can be: n8n and the interop libraries from npm, schemathesis from PyPI, into the
# cache; images pulled.
#   GENESIS_CACHE      downloads, outside the checkout     (~/.cache/genesis)
#   GENESIS_N8N_TREE   a folder that holds node_modules/n8n already; GENESIS_N8N_OLD_TREE one with n8n 1.x
#   GENESIS_CHROMIUM   the browser that looks at the page  (chromium, or google-chrome)
#   DOCKER_HOST        the container engine, unix:///…     (unix:///var/run/docker.sock)
#   GENESIS_LAB        a folder whose dockerd.sh and images.sh give engine and images where there are none
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${GENESIS_CACHE:-$HOME/.cache/genesis}
n8n_version=2.8.4
# The last 1.x: it can neither list nor update credentials.
n8n_old_version=1.123.81
schemathesis_version=4.32.5
no_skip=0
filters=()
for argument in "$@"; do
  case $argument in
    --no-skip) no_skip=1 ;;
    -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) filters+=("$argument") ;;
  esac
done

say() { printf '\n== %s\n' "$*"; }
skipped=()
# skip NAME-PREFIX REASON: leaves tests out, loudly, or ends the run.
excluded=()
skip() {
  if [ "$no_skip" = 1 ]; then echo "cannot run $1: $2" >&2; exit 1; fi
  excluded+=("not test($1)")
  skipped+=("$1: $2")
}

npm_install() { # npm_install FOLDER [OPTION…]: what its package.json asks for, once
  local folder=$1
  shift
  if [ -f "$folder/.installed" ] && cmp -s "$folder/package.json" "$folder/.installed"; then return 0; fi
  (cd "$folder" && npm install --no-audit --no-fund --loglevel=error --no-package-lock "$@") &&
    cp "$folder/package.json" "$folder/.installed"
}

rebuild_sqlite() { # rebuild_sqlite FOLDER: the one native module that is needed, once
  if [ -f "$1/node_modules/sqlite3/build/Release/node_sqlite3.node" ]; then return 0; fi
  (cd "$1" && npm rebuild --loglevel=error sqlite3)
}

wants_n8n() { # wants_n8n FOLDER VERSION
  mkdir -p "$1"
  # xlsx: the version that n8n asks for is not in the registry.
  printf '{"name":"genesis-n8n","private":true,"dependencies":{"n8n":"%s"},"overrides":{"xlsx":"0.18.5"}}\n' \
    "$2" >"$1/package.json"
}

say "Node, n8n $n8n_version, interop libraries"
if ! command -v npm >/dev/null || ! node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null; then
  skip real_n8n "there is no Node.js of version 20 or newer, which n8n 2.8 wants"
  skip jose "there is no Node.js of version 20 or newer"
  skip hpke_core "there is no Node.js of version 20 or newer"
else
  if [ -z "${GENESIS_N8N_TREE:-}" ]; then
    GENESIS_N8N_TREE=$cache/n8n-$n8n_version
    wants_n8n "$GENESIS_N8N_TREE" "$n8n_version"
    npm_install "$GENESIS_N8N_TREE" || skip real_n8n "n8n could not be installed from npm (see above)"
  fi
  if [ -z "${GENESIS_N8N_OLD_TREE:-}" ]; then
    GENESIS_N8N_OLD_TREE=$cache/n8n-$n8n_old_version
    wants_n8n "$GENESIS_N8N_OLD_TREE" "$n8n_old_version"
    # One of its native modules cannot be built for this Node.js and is not needed (N8N_EXPRESSION_ENGINE=legacy).
    { npm_install "$GENESIS_N8N_OLD_TREE" --ignore-scripts && rebuild_sqlite "$GENESIS_N8N_OLD_TREE"; } ||
      skip real_n8n "n8n $n8n_old_version could not be installed from npm (see above)"
  fi
  export GENESIS_N8N_TREE GENESIS_N8N_OLD_TREE
  export GENESIS_INTEROP_DIR=$cache/interop
  mkdir -p "$GENESIS_INTEROP_DIR"
  cp tests/interop/* "$GENESIS_INTEROP_DIR/"
  npm_install "$GENESIS_INTEROP_DIR" || { skip jose "not installed from npm"; skip hpke_core "not installed from npm"; }
fi

lab=${GENESIS_LAB:-../shared/lab}
n8n_before_version=2.7.5

engine_answers() { # engine_answers unix:///SOCKET
  curl --silent --fail --max-time 5 --unix-socket "${1#unix://}" http://engine/_ping >/dev/null 2>&1
}

wants_engine() { # sets DOCKER_HOST
  export DOCKER_HOST=${DOCKER_HOST:-unix:///var/run/docker.sock}
  if engine_answers "$DOCKER_HOST"; then return 0; fi
  [ -x "$lab/dockerd.sh" ] && DOCKER_HOST=$("$lab/dockerd.sh")
}

wants_images() { # wants_images IMAGE…: here already, or pulled, or from the lab
  local image absent=0
  for image in "$@"; do
    docker image inspect "$image" >/dev/null 2>&1 || docker pull --quiet "$image" >/dev/null 2>&1 || absent=1
  done
  [ "$absent" = 0 ] && return 0
  [ -x "$lab/images.sh" ] && LAB_TREES="$n8n_version=${GENESIS_N8N_TREE:-}" "$lab/images.sh"
}

pinned() { # pinned IMAGE: with its digest in the registry, or, where it came without one, its own id
  local digest
  digest=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$1" | sed -n 's/.*@//p' | head -n 1)
  printf '%s@%s' "$1" "${digest:-$(docker image inspect --format '{{.Id}}' "$1")}"
}

say "Container engine, images of n8n, PostgreSQL, Caddy"
n8n_image=n8nio/n8n:$n8n_version n8n_before_image=n8nio/n8n:$n8n_before_version
if [ "$(id -u)" != 0 ]; then
  skip real_engine "needs root, as the agent does: folders of containers belong to other users"
elif ! wants_engine || ! command -v docker >/dev/null; then
  skip real_engine "no container engine answers at ${DOCKER_HOST:-}, or there is no docker command"
elif ! wants_images "$n8n_image" "$n8n_before_image" caddy:2-alpine postgres:15; then
  skip real_engine "the images cannot be pulled from here"
else
  GENESIS_IMAGE_N8N=$(pinned "$n8n_image") GENESIS_IMAGE_N8N_OLD=$(pinned "$n8n_before_image")
  GENESIS_IMAGE_CADDY=$(pinned caddy:2-alpine) GENESIS_IMAGE_POSTGRES=$(pinned postgres:15)
  export GENESIS_IMAGE_N8N GENESIS_IMAGE_N8N_OLD GENESIS_IMAGE_CADDY GENESIS_IMAGE_POSTGRES
fi

say "Schemathesis $schemathesis_version"
schemathesis=$cache/schemathesis
if ! python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
  skip schemathesis "there is no Python 3.10 or newer with venv"
elif ! "$schemathesis/bin/schemathesis" --version 2>/dev/null | grep -qF "$schemathesis_version" &&
  ! { python3 -m venv "$schemathesis" && "$schemathesis/bin/pip" install --quiet "schemathesis==$schemathesis_version"; }; then
  skip schemathesis "schemathesis could not be installed with pip (see above)"
else
  export GENESIS_SCHEMATHESIS=$schemathesis/bin/schemathesis
fi

for browser in chromium chromium-browser google-chrome; do
  [ -z "${GENESIS_CHROMIUM:-}" ] && GENESIS_CHROMIUM=$(command -v "$browser" || true)
done
if [ -n "$GENESIS_CHROMIUM" ]; then export GENESIS_CHROMIUM; else skip headless_browser "there is no Chromium"; fi

missing=""
for program in dpkg dpkg-deb systemd-analyze useradd python3; do command -v "$program" >/dev/null || missing="$missing $program"; done
if [ "$(id -u)" != 0 ] || [ -n "$missing" ]; then
  skip packages "needs root, and here are missing:${missing:- none}"
fi
if ! command -v cloud-init >/dev/null; then
  skip cloud_config "cloud-init is not installed"
fi
export GENESIS_LAB=$lab
if [ ! -x "$lab/droplet/droplet-container.sh" ] || [ -z "${GENESIS_IMAGE_N8N:-}" ]; then
  skip whole_droplet "there is no lab of droplets at $lab/droplet, or no engine"
fi

if [ "$(id -u)" != 0 ] || ! command -v mount >/dev/null; then
  skip small_disk "needs root, to mount a small file system"
fi

if [ ${#filters[@]} -eq 0 ]; then
  say "Formatting and lints"
  cargo fmt --all --check
  cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
  if command -v cargo-deny >/dev/null; then
    cargo deny --locked check bans licenses sources
    # Advisories change without us: a check of the day, where their database can be fetched.
    if cargo deny --locked fetch db 2>/dev/null; then cargo deny --locked check advisories; else
      # No test: what is known of our dependencies changes without us, and a machine without a way there cannot ask.
      skipped+=("advisories: their database cannot be fetched from here")
    fi
  else
    skip dependencies "cargo-deny is not installed (cargo install cargo-deny)"
  fi
  say "The static agent"
  packaging/build-static.sh
fi

say "Binaries"
# Tests start the real binaries; each is built without the features that tests ask of the others.
cargo build --locked --quiet -p genesis-agent -p genesis-hub -p genesisctl
cargo build --locked --quiet -p genesis-agent --features sim --bin genesis-standin
cargo build --locked --quiet -p genesis-tests --bins
cargo build --locked --quiet -p genesis-launcher -p genesis-manual

if [ ${#skipped[@]} -gt 0 ]; then
  printf '\n*** LEFT OUT ***\n'
  printf '  %s\n' "${skipped[@]}"
fi

say "Tests"
expression=""
for part in "${excluded[@]}"; do expression="${expression:+$expression and }$part"; done
for part in "${filters[@]}"; do chosen="${chosen:+$chosen or }test($part)"; done
[ -n "${chosen:-}" ] && expression="${expression:+$expression and }($chosen)"
if command -v cargo-nextest >/dev/null; then
  cargo nextest run --locked --workspace --no-tests=fail ${expression:+-E "$expression"}
else
  echo "cargo-nextest is not installed (cargo install cargo-nextest); using cargo test"
  if [ -n "$expression" ]; then
    # cargo test knows substrings only, which is enough for what is left out.
    left_out=(); for part in "${excluded[@]}"; do name=${part#not test(}; left_out+=(--skip "${name%)}"); done
    cargo test --locked --workspace -- "${left_out[@]}" "${filters[@]}"
  else
    cargo test --locked --workspace
  fi
fi
