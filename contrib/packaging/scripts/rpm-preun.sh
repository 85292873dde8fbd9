if [ "$1" -eq 0 ] && [ -x /usr/bin/systemctl ]; then
	if [ -d /run/systemd/system ]; then
		systemctl --no-reload disable --now @SOCKETS@ @SERVICE@ >/dev/null 2>&1 || :
	else
		systemctl --no-reload disable @SOCKETS@ @SERVICE@ >/dev/null 2>&1 || :
	fi
fi
