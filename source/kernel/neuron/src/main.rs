//! The kernel's program: the machine's boot code, and what happens after a kernel bug. On a host it
//! only says that it is no program for it.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod machine {
    use core::sync::atomic::Ordering;
    use neuron::arch::riscv64::{STOPPED, boot, print};
    use neuron::line;

    /// A kernel bug stops the machine: it prints what it knows through the firmware and never limps on.
    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
        if !STOPPED.swap(true, Ordering::AcqRel) {
            print(line!("\nneuron: panic: {info}\n").as_str());
            sbi_rt::system_reset(sbi_rt::Shutdown, sbi_rt::SystemFailure);
        }
        boot::stop()
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("neuron is a kernel for RISC-V machines: boot it with `make run`");
    std::process::exit(1);
}
