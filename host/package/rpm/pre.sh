# Its members may use the control socket. It has none until the administrator adds some.
getent group twitcher >/dev/null || groupadd --system twitcher || exit 1
# What works on hostile input for the daemon becomes this user, which nobody else may be. It owns nothing.
getent group twitcher-helper >/dev/null || groupadd --system twitcher-helper || exit 1
getent passwd twitcher-helper >/dev/null ||
    useradd --system --no-create-home --home-dir /nonexistent --no-log-init --shell /usr/sbin/nologin --gid twitcher-helper \
        --comment "helpers of Twitcher" twitcher-helper || exit 1
