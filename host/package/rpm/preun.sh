# Not when it makes way for another version.
if [ "$1" = 0 ] && [ -d /run/systemd/system ]; then
    systemctl --quiet --no-reload disable --now twitcher.service || :
fi
exit 0
