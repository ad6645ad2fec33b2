#!/bin/sh
# Makes sure that the programs which the tests start are installed: redis-server, rabbitmq-server, tmux, ssh-agent and
# Chromium.
# As root on Debian and Ubuntu it installs what is missing; elsewhere it says what to install, and exits with 2.
# No daemon has to run: the tests start private servers of their own.
set -eu

PATH="$PATH:/usr/sbin:/sbin:/usr/lib/rabbitmq/bin"

# The programs have the names of their Debian packages.
list_missing() {
    missing=
    for program in redis-server rabbitmq-server tmux; do
        command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
    done
    command -v ssh-agent >/dev/null 2>&1 || missing="$missing openssh-client"
    # Ubuntu's has another name, and its package needs snap: there it is installed by hand.
    command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 || missing="$missing chromium"
}

list_missing
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "The tests need$missing: please install it (on Debian and Ubuntu, as root: apt-get install$missing)." >&2
    exit 2
fi

# The packages would start their daemons, which can fail in a container, and take ports that are not ours to take.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
echo "Installing$missing." >&2
# Whether it worked is seen below, by the programs: a package that is not content with its daemon is good enough.
{
    apt-get update -qq
    # $missing is split into words on purpose.
    apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 $missing
} </dev/null >&2 || true

list_missing
if [ -n "$missing" ]; then
    echo "Installing$missing did not work: see the messages above." >&2
    exit 2
fi
