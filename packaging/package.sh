#!/usr/bin/env bash
# Makes what is released from binaries that are built: Debian packages, archives with checksums, SBOM.
#   packaging/package.sh BINARIES MANUAL OUT
#     BINARIES   a folder with genesis-agent, genesis-launcher, genesis-hub, genesisctl
#     MANUAL     what genesis-manual wrote
#     OUT        a folder for the results
# GENESIS_DEB_COMPRESSION=gzip is quicker, for tests.
# SOURCE_DATE_EPOCH makes the results the same each time; it defaults to the time of the last commit.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
binaries=$(cd "$1" && pwd) manual=$(cd "$2" && pwd)
mkdir -p "$3"
out=$(cd "$3" && pwd)
cd "$here/.."
version=${GENESIS_VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)}
machine=$(uname -m)
case $machine in x86_64) debian=amd64 ;; aarch64) debian=arm64 ;; *) echo "no package for $machine" >&2; exit 1 ;; esac
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

place() { install -D -m "$1" "$2" "$3"; }

manual_of() { # manual_of PROGRAM ROOT
  local page
  for page in "$manual/man/$1".1 "$manual/man/$1"-*.1; do
    [ -e "$page" ] || continue
    place 0644 "$page" "$2/usr/share/man/man1/${page##*/}"
    gzip -9n "$2/usr/share/man/man1/${page##*/}"
  done
  place 0644 "$manual/completions/$1.bash" "$2/usr/share/bash-completion/completions/$1"
  place 0644 "$manual/completions/_$1" "$2/usr/share/zsh/vendor-completions/_$1"
  place 0644 "$manual/completions/$1.fish" "$2/usr/share/fish/vendor_completions.d/$1.fish"
}

deb() { # deb PACKAGE DESCRIPTION [FIELD…]: from $work/PACKAGE
  local package=$1 description=$2 root=$work/$1
  shift 2
  {
    echo "Genesis $package, https://github.com/genesis-control/genesis"
    echo "License: Apache-2.0, see /usr/share/common-licenses/Apache-2.0"
  } | install -D -m 0644 /dev/stdin "$root/usr/share/doc/$package/copyright"
  printf '%s (%s) stable; urgency=medium\n\n  * See the release notes.\n\n -- The Genesis authors <genesis@localhost>  %s\n' \
    "$package" "$version" "$(date -R -u -d "@$SOURCE_DATE_EPOCH")" |
    gzip -9n | install -D -m 0644 /dev/stdin "$root/usr/share/doc/$package/changelog.gz"
  mkdir -p "$root/DEBIAN"
  {
    echo "Package: $package"
    echo "Version: $version"
    echo "Architecture: $debian"
    echo "Maintainer: The Genesis authors <genesis@localhost>"
    echo "Installed-Size: $(du -sk --apparent-size --exclude=DEBIAN "$root" | cut -f1)"
    echo "Section: admin"
    echo "Priority: optional"
    echo "Homepage: https://github.com/genesis-control/genesis"
    if [ $# -gt 0 ]; then printf '%s\n' "$@"; fi
    echo "Description: $description"
  } >"$root/DEBIAN/control"
  (cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
  # What somebody edited is kept by dpkg on an upgrade.
  if [ -d "$root/etc" ]; then (cd "$root" && find etc -type f -printf '/%p\n' | sort) >"$root/DEBIAN/conffiles"; fi
  find "$root" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
  dpkg-deb --root-owner-group "-Z${GENESIS_DEB_COMPRESSION:-xz}" --build "$root" "$out/${package}_${version}_$debian.deb" >/dev/null
}

# The agent.
root=$work/genesis-agent
place 0755 "$binaries/genesis-agent" "$root/usr/bin/genesis-agent"
place 0755 "$binaries/genesis-launcher" "$root/usr/lib/genesis/genesis-launcher"
place 0644 packaging/systemd/genesis-agent.service "$root/lib/systemd/system/genesis-agent.service"
place 0644 packaging/deb/agent/default "$root/etc/default/genesis-agent"
manual_of genesis-agent "$root"
for script in postinst prerm postrm; do place 0755 "packaging/deb/agent/$script" "$root/DEBIAN/$script"; done
deb genesis-agent "agent of a Genesis droplet
 Owns the droplet's n8n: takes signed commands from the hub and answers with
 results. Starts once there is /etc/genesis/agent.toml." "Recommends: docker.io | docker-ce, iproute2"

# The hub.
root=$work/genesis-hub
place 0755 "$binaries/genesis-hub" "$root/usr/bin/genesis-hub"
place 0644 packaging/systemd/genesis-hub.service "$root/lib/systemd/system/genesis-hub.service"
place 0644 packaging/deb/hub/default "$root/etc/default/genesis-hub"
place 0644 packaging/deb/hub/hub.toml "$root/etc/genesis-hub/hub.toml"
manual_of genesis-hub "$root"
for script in postinst prerm postrm; do place 0755 "packaging/deb/hub/$script" "$root/DEBIAN/$script"; done
deb genesis-hub "hub of a Genesis fleet
 Queues signed bundles for droplets and stores what they answer. Starts after
 genesis-hub init." "Depends: passwd"

# The operator's tool.
root=$work/genesisctl
place 0755 "$binaries/genesisctl" "$root/usr/bin/genesisctl"
manual_of genesisctl "$root"
deb genesisctl "operator's tool of a Genesis fleet
 Makes keys, signs bundles, seals secrets, pushes and watches."

# The agent for every other Linux.
name=genesis-agent-$version-linux-$machine
archive=$work/$name
place 0755 "$binaries/genesis-agent" "$archive/bin/genesis-agent"
place 0755 "$binaries/genesis-launcher" "$archive/lib/genesis-launcher"
place 0644 packaging/systemd/genesis-agent.service "$archive/systemd/genesis-agent.service"
place 0644 packaging/deb/agent/default "$archive/default/genesis-agent"
mkdir -p "$archive/man" "$archive/completions"
cp "$manual"/man/genesis-agent*.1 "$archive/man/"
cp "$manual"/completions/*genesis-agent* "$archive/completions/"
place 0755 packaging/install.sh "$archive/install.sh"
place 0644 LICENSE "$archive/LICENSE"
(cd "$archive" && find . -type f ! -name SHA256SUMS ! -name install.sh -printf '%P\0' | sort -z | xargs -0 sha256sum >SHA256SUMS)
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$work" -cf - "$name" |
  gzip -9n >"$out/$name.tar.gz"

packaging/sbom.py >"$out/genesis-$version.cdx.json"
(cd "$out" && sha256sum ./*.deb ./*.tar.gz ./*.cdx.json | sed 's| \./| |' >SHA256SUMS)
echo "$out" >&2
