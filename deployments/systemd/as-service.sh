#!/bin/sh
# `calltally …` as root types it on a server: with the settings of the services, which systemd reads, and as their user.
# docs/how-to/deploy.md installs it as /usr/local/sbin/calltally. The exit code is that of calltally.
exec systemd-run --quiet --collect --pipe --pty --uid=calltally --working-directory=/var/lib/calltally \
    --property=EnvironmentFile=/etc/calltally/environment /opt/calltally/bin/calltally "$@"
