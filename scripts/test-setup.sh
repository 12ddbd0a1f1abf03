#!/bin/sh
# Proves the set-up on a bare machine: a fresh Debian or Ubuntu in a folder, the repository copied into it,
# and there only what `make run` does. Needs root, debootstrap and time.
#
#   scripts/test-setup.sh [SUITE [WAY...]]     SUITE: bookworm (default), trixie, noble, jammy
#                                              WAY: debian, rustup (default: both), auto
#
# What it builds is in build/bare/SUITE-WAY and can be removed at any time; the bare system that it starts
# from is kept in build/bare/SUITE. Certificates that this machine trusts beyond the usual go with it.
set -eu

root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
suite=${1:-bookworm}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- debian rustup
bare="$root/build/bare/$suite"
passed=0
failed=0

say() { echo "test-setup: $*"; }
fail() { say "$*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "needs root (for chroot)"
command -v debootstrap >/dev/null || fail "needs debootstrap (apt-get install debootstrap)"

sources() {
    case "$suite" in
        noble | jammy)
            echo "deb http://archive.ubuntu.com/ubuntu $suite main universe"
            echo "deb http://archive.ubuntu.com/ubuntu $suite-updates main universe"
            echo "deb http://archive.ubuntu.com/ubuntu $suite-security main universe" ;;
        *)
            echo "deb http://deb.debian.org/debian $suite main"
            echo "deb http://deb.debian.org/debian $suite-updates main"
            echo "deb http://deb.debian.org/debian-security $suite-security main" ;;
    esac
}

bootstrap() {
    [ ! -e "$bare/.complete" ] || return 0
    rm -rf --one-file-system "$bare"
    mkdir -p "$bare"
    # An older debootstrap does not know newer suites; the last word is the recipe that they share.
    case "$suite" in
        noble | jammy) from="http://archive.ubuntu.com/ubuntu gutsy" ;;
        *) from="http://deb.debian.org/debian sid" ;;
    esac
    say "making a bare $suite"
    # Two words.
    debootstrap --variant=minbase "$suite" "$bare" $from >"$bare.log" 2>&1 || fail "debootstrap failed; see $bare.log"
    sources >"$bare/etc/apt/sources.list"
    touch "$bare/.complete"
}

# Runs a line in the bare system, without any of this machine's environment and without input.
inside() {
    chroot "$machine" env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        ${forced:+NEXUS_TOOLCHAIN=$forced} sh -c "cd /srv/nexus && $1" </dev/null
}

leave() {
    umount "$machine/dev" "$machine/proc" 2>/dev/null || true
}

try() {
    machine="$bare-$1"
    forced=$1
    [ "$1" != auto ] || forced=
    leave
    rm -rf --one-file-system "$machine"
    cp -a --reflink=auto "$bare" "$machine"
    mkdir -p "$machine/srv/nexus" "$machine/usr/local/share/ca-certificates"
    (cd "$root" && git ls-files -z | tar --null -T - -c) | tar -x -C "$machine/srv/nexus"
    cp /etc/resolv.conf "$machine/etc/resolv.conf"
    for certificate in /usr/local/share/ca-certificates/*.crt; do
        [ ! -e "$certificate" ] || cp "$certificate" "$machine/usr/local/share/ca-certificates/"
    done
    mount -t proc proc "$machine/proc"
    mount --bind /dev "$machine/dev"
    trap leave EXIT
    say "$suite, $1: set-up"
    inside "scripts/setup.sh run" || return 1
    say "$suite, $1: a second set-up must do nothing"
    [ -z "$(inside "scripts/setup.sh run" 2>&1)" ] || return 1
    say "$suite, $1: build and boot"
    inside "scripts/nx test os" || return 1
    leave
}

bootstrap
for way in "$@"; do
    if try "$way"; then
        passed=$((passed + 1))
        say "$suite, $way: passed"
    else
        failed=$((failed + 1))
        say "$suite, $way: FAILED"
        leave
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
