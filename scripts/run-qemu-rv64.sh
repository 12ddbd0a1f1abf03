#!/bin/sh
# Boots the system in QEMU with the console on this terminal; arguments are those of `nx run`.
exec "$(dirname -- "$0")/nx" run "$@"
