#!/bin/sh
# Installs what is missing on a Debian machine: `setup.sh build` what building needs, `setup.sh test` what the tests
# need too, `setup.sh fuzz` what fuzzing needs. Says nothing and changes nothing when everything is there.
set -eu

build="gcc libc6-dev libpcap-dev pkg-config"
tests="tshark tcpdump iproute2 ethtool iputils-ping bind9-dnsutils dnsmasq-base python3 curl jq gzip zstd procps strace util-linux mount e2fsprogs btrfs-progs faketime
    openssl systemd make git"

case "${1:-test}" in
build) wanted=$build ;;
test) wanted="$build $tests" ;;
fuzz) wanted="$build g++" ;;
*) echo "usage: setup.sh build|test|fuzz" >&2 && exit 64 ;;
esac

if ! command -v cargo >/dev/null; then
    echo "Rust is missing: install it from https://rustup.rs (1.95 or newer), then run this again." >&2
    exit 69
fi
if ! command -v dpkg-query >/dev/null; then
    echo "This is no Debian machine; make sure that you have the likes of: $wanted" >&2
    exit 0
fi

is_installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=
for package in $wanted; do
    is_installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
    sudo=
elif command -v sudo >/dev/null; then
    sudo=sudo
else
    echo "Missing:$missing. Neither root nor sudo is here; as root run: apt-get install$missing" >&2
    exit 77
fi

# Without a terminal nobody could answer, and wireshark-common asks whether others may capture.
as_root() { $sudo env DEBIAN_FRONTEND=noninteractive "$@"; }
apt() { as_root apt-get -qq -o DPkg::Lock::Timeout=300 "$@"; }

echo "Installing:$missing" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() {
    "$@" >"$log" 2>&1 || {
        cat "$log" >&2
        exit 70
    }
}
case "$missing" in
*tshark*) echo "wireshark-common wireshark-common/install-setuid boolean false" |
    as_root debconf-set-selections ;;
esac
quietly apt update
# shellcheck disable=SC2086 # a list of words
quietly apt install --no-install-recommends $missing
