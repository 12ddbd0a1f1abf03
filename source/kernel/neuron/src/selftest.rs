//! What the kernel proves of itself, on the machine it is about to run, before init does.

use crate::arch::Arch;
use crate::kernel::{Hart, Kernel};
use crate::sync::{Held, Nothing};

/// Runs every self-test; each prints its line or ends the boot.
pub fn run<A: Arch>(_kernel: &Kernel<A>, _hart: &mut Hart, _held: &mut Held<'_, Nothing>) {}
