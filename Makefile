# Doors for people without `just`. What happens behind them is `nx`; `make help` lists them.
NX := scripts/nx

.DEFAULT_GOAL := help
.PHONY: help setup doctor build image run test bench clean

help: ## Tell what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 16

setup: ## Install what building, running and testing need
	@scripts/setup.sh test

doctor: ## Name what is missing, with the command that mends it
	@scripts/setup.sh doctor

build: ## Compile the kernel and every program
	@scripts/setup.sh run
	@$(NX) build

image: ## Compile, and write what QEMU boots to build/image
	@scripts/setup.sh run
	@$(NX) image

run: ## Boot the system in QEMU with the console on this terminal
	@scripts/setup.sh run
	@$(NX) run

test: ## Prove everything: each gate, one after the other
	@scripts/setup.sh test
	@$(NX) test all

bench: ## Measure, and print the figures
	@scripts/setup.sh run
	@$(NX) bench

clean: ## Remove what was built, and nothing that was made in the system
	@rm -rf target build/image build/qemu
