#!/bin/sh
# Boots the system in QEMU and judges its console; arguments and variables are those of `nx test os`.
exec "$(dirname -- "$0")/nx" test os "$@"
