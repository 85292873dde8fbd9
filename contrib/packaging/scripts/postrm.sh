#!/bin/sh
set -e

if [ "$1" = remove ] || [ "$1" = purge ]; then
	if [ -d /run/systemd/system ]; then
		systemctl --system daemon-reload >/dev/null || true
	fi
fi

if [ "$1" = remove ] && [ -d /var/spool/postfix/tlsverdict ]; then
	rmdir --ignore-fail-on-non-empty /var/spool/postfix/tlsverdict || true
fi

if [ "$1" = purge ]; then
	if command -v deb-systemd-helper >/dev/null; then
		deb-systemd-helper purge @SOCKETS@ @SERVICE@ >/dev/null || true
		deb-systemd-helper unmask @SOCKETS@ @SERVICE@ >/dev/null || true
	fi
	# The state of a dynamic user lies in private, and a link leads there.
	rm -rf /var/lib/private/@STATE@ /var/lib/@STATE@ /var/cache/apparmor/*/@PACKAGE@
	if [ -d /etc/tlsverdict ]; then
		rmdir --ignore-fail-on-non-empty /etc/tlsverdict || true
	fi
fi
