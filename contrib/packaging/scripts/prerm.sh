#!/bin/sh
set -e

if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
	# Sockets first: they would start the service again.
	deb-systemd-invoke stop @SOCKETS@ @SERVICE@ >/dev/null || true
fi
