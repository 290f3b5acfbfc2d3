#!/bin/sh
# need.sh THING...: sees to it that each thing is on this machine. What is missing is installed with
# apt-get where that takes no password; elsewhere it says plainly what to install, and fails.
set -eu

present() {
  case $1 in
    gcc) printf '#include <stdio.h>\n' | gcc -E - ;;
    libmosquitto) printf '#include <mosquitto.h>\n' | gcc -E - ;;
    *) command -v "$1" ;;
  esac >/dev/null 2>&1
}

# The thing's packages in Debian and its like.
packages() {
  case $1 in
    mosquitto) echo mosquitto ;;
    libmosquitto) echo libmosquitto-dev ;;
    gcc) echo gcc libc6-dev ;;
    systemd-analyze) echo systemd ;;
    dbus-daemon) echo dbus-daemon ;;
    *) echo "$1" ;;
  esac
}

# What it is for, for whoever has to install it by hand.
purpose() {
  case $1 in
    mosquitto) echo 'the MQTT broker that the tests run against' ;;
    libmosquitto) echo 'the MQTT library of the C reference, with its header' ;;
    gcc) echo 'compiles the C reader of the run permit, and the C references' ;;
    systemd-analyze) echo 'checks the units; part of systemd' ;;
    dbus-daemon) echo 'a message bus of their own for the tests of the systemd adapter' ;;
    *) echo 'needed here' ;;
  esac
}

missing=
for thing in "$@"; do present "$thing" || missing="$missing $thing"; done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then root='env'; else root='sudo -n env'; fi
wanted=$(for thing in $missing; do packages "$thing"; done | tr '\n' ' ' | sed 's, $,,')

say_and_fail() {
  echo "Missing on this machine:" >&2
  for thing in $missing; do
    present "$thing" || printf '  %-16s %s\n' "$thing" "$(purpose "$thing")" >&2
  done
  echo "$1" >&2
  exit 1
}

command -v apt-get >/dev/null ||
  say_and_fail "There is no apt-get here to install it with: install it with this system's package manager (Debian calls it: $wanted)."
$root true 2>/dev/null ||
  say_and_fail "Installing it takes rights that this user does not have without a password. Run: sudo apt-get install $wanted"

echo "Installing with apt-get: $wanted ..."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { $root DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 "$@" </dev/null >>"$log" 2>&1; }
# A list that could not be renewed may still serve; the install is what counts.
apt update || true
# shellcheck disable=SC2086 # one word per package
apt install --yes --no-install-recommends $wanted || { cat "$log" >&2; say_and_fail "apt-get could not install it: see above."; }
for thing in $missing; do present "$thing" || say_and_fail "apt-get installed $wanted, and it is still not there."; done
case $missing in
  *\ mosquitto*) echo "(Debian's package may start a broker of its own on 127.0.0.1:1883. Nothing here uses it.)" ;;
esac
