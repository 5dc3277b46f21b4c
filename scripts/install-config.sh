#!/bin/sh
# install-config.sh FROM TO: installs the configuration with the places that the unit uses. One that is there already is
# left as it is; the new one then goes to TO.new.
set -eu

from=$1 to=$2
[ ! -e "$to" ] || to=$to.new
mkdir -p "$(dirname "$to")"
sed -e 's|^#output = "captures"$|output = "/var/lib/mirrortap"|' \
    -e 's|^#socket = "auto"$|socket = "/run/mirrortap/control.sock"|' "$from" >"$to"
chmod 640 "$to"
echo "configuration: $to"
