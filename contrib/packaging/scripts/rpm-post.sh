# What %systemd_post would write: the presets of the distribution decide.
if [ "$1" -eq 1 ] && [ -x /usr/bin/systemctl ]; then
	systemctl --no-reload preset @SOCKETS@ @SERVICE@ >/dev/null 2>&1 || :
fi
