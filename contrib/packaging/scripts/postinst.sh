#!/bin/sh
# What dh_installsystemd would write, but that sockets are not restarted: they
# hold who asks while the service is, and would refuse to start beside it.
set -e

if [ "$1" = configure ] || [ "$1" = abort-upgrade ] || [ "$1" = abort-deconfigure ] || [ "$1" = abort-remove ]; then
	for unit in @SOCKETS@ @SERVICE@; do
		# Takes back a mask of our own removal only.
		deb-systemd-helper unmask "$unit" >/dev/null || true
		if deb-systemd-helper --quiet was-enabled "$unit"; then
			deb-systemd-helper enable "$unit" >/dev/null || true
		else
			deb-systemd-helper update-state "$unit" >/dev/null || true
		fi
	done
	if [ -f /etc/apparmor.d/@PACKAGE@ ] && command -v aa-enabled >/dev/null && aa-enabled --quiet 2>/dev/null; then
		apparmor_parser -r -T -W /etc/apparmor.d/@PACKAGE@ || true
	fi
	if [ -d /run/systemd/system ]; then
		systemctl --system daemon-reload >/dev/null || true
		if [ -n "$2" ]; then
			deb-systemd-invoke try-restart @SERVICE@ >/dev/null || true
		fi
		deb-systemd-invoke start @SOCKETS@ @SERVICE@ >/dev/null || true
	fi
fi
