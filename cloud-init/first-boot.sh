#!/bin/sh
# Turns a stock image into a droplet: swap, Docker, firewall, agent. Run as root by genesis-first-boot.service at every
# boot until it has succeeded once; every part of it may be cut off anywhere and is then done again.
#   /etc/genesis/first-boot/package-url, package-sha256   the agent's package; without them the image has it
#   /etc/genesis/first-boot/ssh                           "yes" leaves port 22 open
#   /etc/genesis/first-boot/token                         the one-time token; handed on, once
set -eu
wishes=/etc/genesis/first-boot
state=/var/lib/genesis
token=/etc/genesis/provisioning.token
umask 022

say() { echo "first boot: $*"; }
wish() { if [ -r "$wishes/$1" ]; then cat "$wishes/$1"; fi; }
has() { command -v "$1" >/dev/null 2>&1; }

# again TIMES COMMAND…: networks and package mirrors fail and come back.
again() {
  left=$1
  shift
  until "$@"; do
    left=$((left - 1))
    if [ "$left" -le 0 ]; then return 1; fi
    say "failed, trying again: $*"
    sleep 5
  done
}

# 4 GiB, or what the disk can spare beside the 6 GiB that images and a swap of versions need. That there is none stops
# nothing: `genesis-agent doctor` looks at /proc/swaps and tells.
make_swap() {
  if [ "$(wc -l </proc/swaps)" -gt 1 ] || grep -q '^/swapfile ' /etc/fstab; then return 0; fi
  free_mb=$(df -Pm / | awk 'NR == 2 { print $4 }')
  size_mb=$((free_mb - 6144))
  if [ "$size_mb" -gt 4096 ]; then size_mb=4096; fi
  if [ "$size_mb" -lt 512 ]; then say "no room for a swap file: $free_mb MiB are free"; return 0; fi
  rm -f /swapfile
  # Not every file system can swap to what fallocate makes; ext4, which images have, can.
  if ! { fallocate -l "${size_mb}M" /swapfile && chmod 600 /swapfile && mkswap /swapfile >/dev/null && swapon /swapfile; }
  then
    say "no swap can be had on this machine"
    rm -f /swapfile
    return 0
  fi
  echo '/swapfile none swap sw 0 0' >>/etc/fstab
}

# Only what the image lacks. Another apt at work (unattended upgrades) is waited for; one that was cut off is finished.
install_missing() {
  missing=
  has dockerd || missing="$missing docker.io"
  has ufw || missing="$missing ufw"
  has ip || missing="$missing iproute2"
  has curl || missing="$missing curl ca-certificates"
  if [ -z "$missing" ]; then return 0; fi
  if ! has apt-get; then say "missing:$missing, and there is no apt-get to install them"; return 1; fi
  export DEBIAN_FRONTEND=noninteractive
  again 5 dpkg --configure -a
  again 10 apt-get -qq -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 update
  # shellcheck disable=SC2086 # a list of words
  again 10 apt-get -qq -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 install --no-install-recommends $missing
}

# daemon.json is read at the engine's start. It was written before; an engine that was up by then has not seen it.
start_engine() {
  systemctl enable --quiet docker.service
  if [ ! -e "$state/engine-configured" ]; then systemctl restart docker.service; fi
  systemctl start docker.service
  : >"$state/engine-configured"
}

# Ports that containers publish bypass ufw; the stack publishes only its proxy to the world.
close_ports() {
  ufw --force default deny incoming
  for port in 80/tcp 443/tcp 443/udp; do ufw allow "$port"; done
  if [ "$(wish ssh)" = yes ]; then ufw allow 22/tcp; fi
  ufw --force enable
}

install_agent() {
  url=$(wish package-url)
  if [ -z "$url" ]; then
    if has genesis-agent; then return 0; fi
    say "the image has no genesis-agent, and no package is named"
    return 1
  fi
  sum=$(wish package-sha256)
  package=$state/genesis-agent.deb
  if ! echo "$sum  $package" | sha256sum --check --status --strict 2>/dev/null; then
    again 20 curl --fail --silent --show-error --location --connect-timeout 10 --max-time 300 \
      --max-filesize 67108864 --output "$package.part" "$url"
    if ! echo "$sum  $package.part" | sha256sum --check --status --strict; then
      rm -f "$package.part"
      say "what $url gave has another sha256 than $sum"
      return 1
    fi
    mv "$package.part" "$package"
  fi
  again 5 dpkg --install --force-confold "$package"
  rm -f "$package"
}

# The token is handed on once: an agent that has a journal is enrolled or at it, and a token would only lie about.
hand_on_token() {
  if [ -e "$wishes/token" ]; then
    if [ -e "$state/journal.db" ]; then rm -f "$wishes/token"; else mv "$wishes/token" "$token"; fi
  fi
}

install -d -m 0700 "$state"
make_swap
sysctl -q -p /etc/sysctl.d/60-genesis.conf || say "the kernel keeps its swappiness"
install_missing
start_engine
close_ports
# Before the package: it starts the agent.
hand_on_token
install_agent
systemctl enable --quiet genesis-agent.service
systemctl start genesis-agent.service
sync
: >"$state/first-boot.done"
sync
say "done"
