# While there is one, even if it is empty, a bundle that is signed runs only if its key is trusted.
[ -d /etc/twitcher/keys ] || mkdir -p -m 0755 /etc/twitcher/keys
# systemd before 253 does not know Type=notify-reload, and would say so at each start.
version=$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
drop_in=/usr/lib/systemd/system/twitcher.service.d/notify-reload.conf
if [ "${version:-0}" -ge 253 ]; then
    mkdir -p "${drop_in%/*}"
    ln -sf /usr/share/twitcher/notify-reload.conf "$drop_in"
fi
# Neither enabled nor started: there is nothing to watch yet. A daemon that runs is left running; `systemctl restart twitcher` is the
# administrator's, at a time that suits.
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
fi
exit 0
