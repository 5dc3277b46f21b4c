#!/bin/sh
# After an installation into the running system: makes the user and the folders, applies the kernel settings, and
# tells systemd of the unit. Starts nothing.
set -eu

systemd-sysusers mirrortap.conf
systemd-tmpfiles --create mirrortap.conf
# in a container the kernel's settings belong to the host
sysctl --quiet --system || echo "The kernel settings were not applied; see 60-mirrortap.conf." >&2
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    echo "Now: systemctl enable --now mirrortap"
fi
