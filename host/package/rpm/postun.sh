# State in /var/lib/twitcher and the group stay, as they do with rpm: nobody asked for them to be removed.
if [ "$1" = 0 ]; then
    rm -f /usr/lib/systemd/system/twitcher.service.d/notify-reload.conf
    rmdir --ignore-fail-on-non-empty /usr/lib/systemd/system/twitcher.service.d 2>/dev/null || :
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
fi
exit 0
