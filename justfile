# The names of what can be proven; what happens behind them is `nx`. `just` alone lists them.
nx := "scripts/nx"

[private]
default:
    @just --list --unsorted

# The sources are formatted.
fmt-check:
    {{nx}} gate fmt-check

# clippy has no warning on the host and for the machine; prints figures of style.
lint:
    {{nx}} gate lint

# Licences and sources are allowed; nothing is linked in two versions.
deny-check:
    {{nx}} gate deny-check

# Nothing forbidden is linked into what runs on the machine.
dep-gate:
    {{nx}} gate dep-gate

# Dependencies run one way; no service calls itself through others.
arch-check:
    {{nx}} gate arch-check

# Documents agree with the sources.
drift:
    {{nx}} gate drift

# Unit, property and negative tests on the host.
test-host:
    {{nx}} gate test-host

# The whole system on the simulator: every scenario with many seeds; `--mutants`, `--coverage`, `--seed N`.
test-e2e *arguments:
    {{nx}} test e2e {{arguments}}

# Every order in which harts can meet in the shared structures.
test-loom:
    {{nx}} gate test-loom

# The kernel can be built.
build-kernel:
    {{nx}} build kernel

# Every program can be built for RISC-V.
diag-os:
    {{nx}} build userland

# The whole ladder in QEMU, on one hart and on two.
test-os:
    {{nx}} gate test-os
    {{nx}} gate test-os-smp

# The ladder up to the devices.
test-mmio:
    RUN_PHASE=mmio {{nx}} test os --profile mmio

# Five power cuts under the whole system in QEMU, compared from outside.
test-power:
    {{nx}} gate test-power

# Sessions at the prompt, and boots that must be refused.
test-interactive:
    {{nx}} gate test-interactive

# Every gate.
test:
    {{nx}} test all

# Figures, as a table or (`just bench --json`) as one object.
bench *arguments:
    {{nx}} bench {{arguments}}

# A long campaign with a limit in minutes: `just soak statefs 10`, `just soak power 10` (with `--machine`: in QEMU), `just soak sim 10`, `just soak drivers 10`, `just soak storm 10 --smp 4 --seed 1`.
soak what minutes *arguments:
    {{nx}} soak {{what}} {{minutes}} {{arguments}}

# Random input with a limit in minutes: `just fuzz syscalls 10`, or `statefs` (needs cargo-fuzz and a nightly compiler).
fuzz what minutes:
    {{nx}} fuzz {{what}} {{minutes}}

# Both ways of set-up on a bare Debian in build/bare (needs root and debootstrap; long).
test-setup:
    scripts/test-setup.sh
