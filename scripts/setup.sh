#!/bin/sh
# Installs what is missing on a Debian machine: `setup.sh build` what building needs, `setup.sh test` what the tests
# need too, `setup.sh fuzz` what fuzzing needs. Says nothing and changes nothing when everything is there.
# For the tests it also makes a Python environment in the build folder, from tests/tools/requirements.txt.
set -eu

build="gcc libc6-dev libpcap-dev pkg-config"
tests="tshark tcpdump iproute2 ethtool iputils-ping bind9-dnsutils dnsmasq-base python3 python3-venv curl jq gzip zstd procps strace util-linux mount e2fsprogs btrfs-progs faketime
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
log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() {
    "$@" >"$log" 2>&1 </dev/null || {
        cat "$log" >&2
        return 70
    }
}

is_installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Without a terminal nobody could answer, and wireshark-common asks whether others may capture.
as_root() { $sudo env DEBIAN_FRONTEND=noninteractive "$@"; }
apt() { as_root apt-get -qq -o DPkg::Lock::Timeout=300 "$@"; }

install_packages() {
    missing=
    for package in $wanted; do
        is_installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -eq 0 ]; then
        sudo=
    elif command -v sudo >/dev/null; then
        sudo=sudo
    else
        echo "Missing:$missing. Neither root nor sudo is here; as root run: apt-get install$missing" >&2
        exit 77
    fi
    echo "Installing:$missing" >&2
    case "$missing" in
    *tshark*) echo "wireshark-common wireshark-common/install-setuid boolean false" |
        as_root debconf-set-selections ;;
    esac
    quietly apt update
    # shellcheck disable=SC2086 # a list of words
    quietly apt install --no-install-recommends $missing
}

# The first Python that can make environments: one that somebody built may lack what Debian packs apart.
a_python() {
    for python in python3 /usr/bin/python3; do
        if "$python" -c 'import ensurepip, venv' 2>/dev/null </dev/null; then
            echo "$python"
            return 0
        fi
    done
    echo "No Python here can make an environment: install python3-venv." >&2
    return 69
}

make_environment() {
    rm -rf "$tools/venv" &&
        quietly "$python" -m venv "$tools/venv" &&
        quietly "$tools/venv/bin/python" -m pip install --disable-pip-version-check --no-input --retries 10 --timeout 60 \
            --no-deps --only-binary=:all: --no-compile --requirement "$requirements"
}

# The stamp is written last, and names what it was made from: a part is never taken for the whole.
install_test_tools() {
    requirements=$(dirname "$0")/../tests/tools/requirements.txt
    tools=${MIRRORTAP_TEST_TOOLS:-${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/test-tools}
    made_from=$(sha256sum <"$requirements")
    stamp=$tools/venv/made-from
    mkdir -p "$tools"
    # another run may be at it
    exec 9>"$tools/lock"
    flock 9
    if [ "$(cat "$stamp" 2>/dev/null)" = "$made_from" ] && "$tools/venv/bin/python" -c '' 2>/dev/null </dev/null; then
        return 0
    fi
    python=$(a_python)
    echo "Installing the Python packages of the tests into $tools" >&2
    make_environment || { sleep 10 && make_environment; } || { sleep 30 && make_environment; }
    echo "$made_from" >"$stamp"
}

if ! command -v dpkg-query >/dev/null; then
    echo "This is no Debian machine; make sure that you have the likes of: $wanted" >&2
else
    install_packages
fi
case "${1:-test}" in
test) install_test_tools ;;
esac
