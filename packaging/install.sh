#!/bin/sh
# Installs the agent from the unpacked release archive, on any Linux with systemd, as the Debian package would.
#   ./install.sh [--root FOLDER]     FOLDER: install into this tree and start nothing (images, tests)
set -eu
cd "$(dirname "$0")"
root=
if [ "${1:-}" = --root ]; then root=${2:?--root needs a folder}; fi
if [ -z "$root" ] && [ "$(id -u)" != 0 ]; then echo "install.sh: needs root" >&2; exit 1; fi
# A download that was cut off must not become a half agent.
sha256sum --check --quiet --strict SHA256SUMS

place() { # place MODE SOURCE TARGET: a file that runs is replaced, never written into
  mkdir -p "$root${3%/*}"
  cp "$2" "$root$3.new"
  chmod "$1" "$root$3.new"
  mv "$root$3.new" "$root$3"
}
place 0755 bin/genesis-agent /usr/bin/genesis-agent
place 0755 lib/genesis-launcher /usr/lib/genesis/genesis-launcher
place 0644 systemd/genesis-agent.service /usr/lib/systemd/system/genesis-agent.service
for page in man/genesis-agent*.1; do place 0644 "$page" "/usr/share/man/man1/${page##*/}"; done
place 0644 completions/genesis-agent.bash /usr/share/bash-completion/completions/genesis-agent
mkdir -p "$root/etc/genesis" "$root/var/lib/genesis"
chmod 0700 "$root/var/lib/genesis"
if [ ! -e "$root/etc/default/genesis-agent" ]; then place 0644 default/genesis-agent /etc/default/genesis-agent; fi
rm -f "$root/var/lib/genesis/slots/current" "$root/var/lib/genesis/slots/trial"
if [ -z "$root" ] && [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl enable --quiet genesis-agent.service
  systemctl restart genesis-agent.service
fi
echo "installed; the agent starts once there is /etc/genesis/agent.toml"
