#!/bin/sh
# Installs what running or testing Open Nexus needs on Debian and Ubuntu, and says what and why.
#
#   scripts/setup.sh run              what `make run` needs: QEMU, OpenSBI, compiler, RISC-V target
#   scripts/setup.sh test             that, and what `make test` needs
#   scripts/setup.sh doctor           installs nothing; names what is missing with the command that mends it
#   scripts/setup.sh doctor --plain   the same as tab-separated lines
#
# It asks for nothing, and installs nothing that is there already. NEXUS_TOOLCHAIN=rustup or =debian
# forces one of two ways to a compiler; otherwise rustup is taken where it is or can be had, and Debian's
# own pair (with the standard library built from source) where it cannot. The choice is kept in
# build/toolchain.env for `nx` and `make`. This is shell because a bare machine has nothing else.
set -eu

root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
remembered="$root/build/toolchain.env"
target=riscv64gc-unknown-none-elf
channel=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$root/rust-toolchain.toml")
just_version=1.59.0
cargo_bin="${CARGO_HOME:-${HOME:-/root}/.cargo}/bin"
toolchains="${RUSTUP_HOME:-${HOME:-/root}/.rustup}/toolchains"
PATH="$PATH:$cargo_bin"
export PATH DEBIAN_FRONTEND=noninteractive

run_needs="certificates qemu firmware linker compiler"
test_needs="lints just"

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
as_root() { [ "$(id -u)" = 0 ] && echo "" || echo "sudo "; }

# Whether apt knows a package that can be installed.
offered() { apt-cache policy "$1" 2>/dev/null | grep -q 'Candidate: [0-9]'; }
# The same, in a version that is new enough for us.
offered_rustc_web() {
    version=$(apt-cache policy rustc-web 2>/dev/null | sed -n 's/ *Candidate: \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
    new_enough "$version"
}
# `1 96` against the pinned channel.
new_enough() {
    [ -n "$1" ] || return 1
    wanted=$(echo "$channel" | cut -d. -f2)
    [ "${1% *}" -gt 1 ] || { [ "${1% *}" = 1 ] && [ "${1#* }" -ge "$wanted" ]; }
}
debian_version() { /usr/bin/rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9]*\)\.\([0-9]*\).*/\1 \2/p'; }
apt_install() { echo "$(as_root)apt-get install -y --no-install-recommends $*"; }

# Each need: have_X tells whether it is met, why_X what it is for, mend_X prints the command that meets it.

have_certificates() { [ -s /etc/ssl/certs/ca-certificates.crt ]; }
why_certificates() { echo "certificates, to fetch crates over HTTPS"; }
mend_certificates() { apt_install ca-certificates; }

have_qemu() { have qemu-system-riscv64; }
why_qemu() { echo "QEMU for RISC-V, the machine that the system runs on"; }
mend_qemu() {
    if offered qemu-system-riscv; then apt_install qemu-system-riscv; else apt_install qemu-system-misc; fi
}

have_firmware() {
    for place in /usr/share/qemu /usr/lib/riscv64-linux-gnu/opensbi/generic; do
        [ -e "$place/opensbi-riscv64-generic-fw_dynamic.bin" ] && return 0
    done
    return 1
}
why_firmware() { echo "OpenSBI, the firmware that starts the kernel"; }
mend_firmware() { apt_install opensbi; }

have_linker() { have cc && [ -e /usr/include/stdlib.h ]; }
why_linker() { echo "a C compiler, with which Rust links the host's own tools"; }
mend_linker() { apt_install gcc libc6-dev; }

have_compiler() { "have_compiler_$toolchain"; }
why_compiler() { echo "Rust $channel or later with the target $target"; }
mend_compiler() { "mend_compiler_$toolchain"; }

have_compiler_rustup() {
    have rustup || return 1
    for directory in "$toolchains/$channel"-*/lib/rustlib/"$target"/lib; do [ -d "$directory" ] && return 0; done
    return 1
}
mend_compiler_rustup() {
    if ! have rustup; then
        if offered rustup; then
            apt_install rustup
        else
            have curl || apt_install curl
            echo "curl --proto '=https' --tlsv1.2 -sSf https://static.rust-lang.org/rustup/rustup-init.sh | sh -s -- -y --profile minimal --default-toolchain none"
        fi
    fi
    echo "rustup toolchain install $channel --profile minimal --no-self-update --component rustfmt,clippy --target $target"
}

have_compiler_debian() {
    [ -x /usr/bin/cargo ] && have ld.lld && new_enough "$(debian_version)" \
        && [ -e /usr/lib/rustlib/src/rust/library/core/Cargo.toml ]
}
mend_compiler_debian() { apt_install rustc-web cargo-web rust-web-src lld; }

have_lints() {
    if [ "$toolchain" = rustup ]; then
        for file in "$toolchains/$channel"-*/bin/cargo-clippy; do [ -x "$file" ] && return 0; done
        return 1
    fi
    [ -x /usr/bin/cargo-clippy ] && [ -x /usr/bin/rustfmt ]
}
why_lints() { echo "rustfmt and clippy, which check the sources"; }
mend_lints() {
    if [ "$toolchain" = rustup ]; then
        echo "rustup component add --toolchain $channel rustfmt clippy"
    else
        apt_install rustfmt-web rust-web-clippy
    fi
}

have_just() { have just; }
why_just() { echo "just, which runs the recipes of the justfile"; }
mend_just() {
    if offered just; then
        apt_install just
    elif [ "$toolchain" = rustup ]; then
        echo "cargo +$channel install --locked --version $just_version just"
    else
        echo "RUSTC=/usr/bin/rustc /usr/bin/cargo install --locked --version $just_version just"
    fi
}

# Which way to a compiler: the forced one, the remembered one, the one that is there, the one that can be had.
choose_toolchain() {
    toolchain=${NEXUS_TOOLCHAIN:-}
    [ -n "$toolchain" ] || toolchain=$(sed -n 's/^NEXUS_TOOLCHAIN=//p' "$remembered" 2>/dev/null || true)
    case "$toolchain" in
        rustup | debian) return ;;
        "") ;;
        *) fail "NEXUS_TOOLCHAIN is \`$toolchain\`; it must be rustup or debian" ;;
    esac
    toolchain=rustup
    have rustup && return
    if have_compiler_debian; then toolchain=debian; return; fi
    refresh
    if ! offered rustup && offered_rustc_web; then toolchain=debian; fi
}

# Brings apt's lists up to date, once, and only when something must be installed.
refreshed=
refresh() {
    [ -z "$refreshed" ] || return 0
    refreshed=yes
    [ "$mode" != doctor ] || return 0
    have apt-get || fail "this machine has no apt-get; install by hand what \`scripts/setup.sh doctor\` names"
    [ "$(id -u)" = 0 ] || have sudo || fail "installing needs root or sudo; \`scripts/setup.sh doctor\` names the commands"
    say "reading the lists of packages"
    $(as_root)apt-get update -qq >&2 || say "apt-get update failed; going on with the lists that are there"
}

meet() {
    "have_$1" && return
    refresh
    say "installing $("why_$1")"
    "mend_$1" | while IFS= read -r command; do
        say "  $command"
        # The output belongs to the person who waits; standard output stays free for who calls us.
        (cd / && sh -c "$command") </dev/null >&2 || exit 1
    done && "have_$1"
}

# Where rustup cannot serve the compiler, Debian's pair takes its place, unless rustup was forced.
meet_compiler() {
    meet compiler && return
    if [ "$toolchain" = rustup ] && [ -z "${NEXUS_TOOLCHAIN:-}" ] && offered_rustc_web; then
        say "rustup could not serve Rust $channel for $target; taking Debian's compiler instead"
        toolchain=debian
        meet compiler && return
    fi
    return 1
}

install() {
    for need in $1; do
        if [ "$need" = compiler ]; then meet_compiler; else meet "$need"; fi || fail "could not install $("why_$need")"
    done
    if [ "$(cat "$remembered" 2>/dev/null)" != "NEXUS_TOOLCHAIN=$toolchain" ]; then
        mkdir -p "$root/build"
        echo "NEXUS_TOOLCHAIN=$toolchain" >"$remembered"
    fi
}

doctor() {
    missing=0
    for need in $run_needs $test_needs; do
        case " $run_needs " in *" $need "*) command="make run" ;; *) command="make test" ;; esac
        if "have_$need"; then state=ok mend=; else
            state=missing missing=1 mend=$("mend_$need" | sed -n 'H;${x;s/\n//;s/\n/ \&\& /g;p;}')
        fi
        if [ "$1" = --plain ]; then
            printf '%s\t%s\t%s\t%s\t%s\n' "$state" "$need" "$command" "$("why_$need")" "$mend"
        else
            printf '%-8s %-12s %s\n' "$state" "$need" "$("why_$need") (needed by $command)"
            [ -z "$mend" ] || printf '         mend by:     %s\n' "$mend"
        fi
    done
    [ "$1" = --plain ] || echo "compiler by $toolchain (NEXUS_TOOLCHAIN=rustup or =debian forces the other)"
    return $missing
}

mode=${1:-run}
choose_toolchain
case "$mode" in
    run) install "$run_needs" ;;
    test) install "$run_needs $test_needs" ;;
    doctor) doctor "${2:-}" ;;
    *) fail "unknown word \`$mode\`; it must be run, test or doctor" ;;
esac
