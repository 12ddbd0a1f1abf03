//! Does on purpose what no program may do. Each run ends in a fault report, or in a kill, and the system goes on.
//! `run faulty` at the prompt lists the faults.
#![cfg_attr(target_os = "none", no_std)]

use nexus_rt::{Environment, info};

/// A word for the prompt, what it does, and the deed.
type Fault = (&'static str, &'static str, fn());

const FAULTS: &[Fault] = &[
    ("write-kernel", "writes to the kernel's memory", deeds::write_kernel),
    ("execute-data", "executes its own data", deeds::execute_data),
    ("write-code", "writes to its own code", deeds::write_code),
    ("stack", "overflows its stack", deeds::overflow_stack),
    ("divide", "divides by zero", deeds::divide_by_zero),
    ("jump", "jumps to where nothing is", deeds::jump_wild),
    ("null", "reads address 0", deeds::read_null),
    ("illegal", "executes an instruction that does not exist", deeds::illegal_instruction),
    ("panic", "panics", deeds::panic),
    ("spin", "computes for ever; ends with `kill`", deeds::spin),
];

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    environment.ready();
    let word = environment.page().arguments().trim();
    if let Some((_, meaning, deed)) = FAULTS.iter().find(|(name, _, _)| *name == word) {
        info!("faulty: {meaning}");
        deed();
        // Whoever comes here was not stopped.
        info!("faulty: {word} had no consequence");
        return 2;
    }
    info!("faulty: say what to do, as in `run faulty stack`:");
    for (name, meaning, _) in FAULTS {
        info!("faulty:   {name:14} {meaning}");
    }
    1
}

/// The deeds. The machine, real or simulated, is expected to end the process at each.
mod deeds {
    use core::hint::black_box;

    /// The first address of the upper half, where the kernel lives.
    const KERNEL: usize = 0xffff_ffc0_0000_0000;
    /// User memory where nothing is ever mapped.
    const NOWHERE: usize = 0x30_0000_0000;

    /// Writes a word.
    fn write(address: usize) {
        // SAFETY: it must fault; the process ends here, and that is the point.
        unsafe {
            core::ptr::without_provenance_mut::<u64>(black_box(address)).write_volatile(0x6b61_7075_7474)
        };
    }

    /// Calls an address.
    fn execute(address: usize) {
        let place = core::ptr::without_provenance::<()>(black_box(address));
        // SAFETY: it must fault; the process ends here, and that is the point.
        let function = unsafe { core::mem::transmute::<*const (), extern "C" fn()>(place) };
        function();
    }

    pub fn write_kernel() {
        write(KERNEL);
    }

    pub fn execute_data() {
        // Two `ret` instructions: were data executable, the call would come back.
        let data: [u16; 2] = black_box([0x8082, 0x8082]);
        execute(data.as_ptr() as usize);
    }

    pub fn write_code() {
        write(write_code as fn() as usize);
    }

    pub fn overflow_stack() {
        black_box(descend(0));
    }

    #[inline(never)]
    #[allow(unconditional_recursion)]
    fn descend(depth: u64) -> u64 {
        let frame = black_box([depth; 64]);
        descend(depth.wrapping_add(1)).wrapping_add(frame[0])
    }

    pub fn divide_by_zero() {
        // RISC-V does not trap; the language checks, and panics.
        black_box(black_box(1u64) / black_box(0));
    }

    pub fn jump_wild() {
        execute(NOWHERE);
    }

    pub fn read_null() {
        // SAFETY: it must fault; the process ends here, and that is the point.
        unsafe { core::ptr::without_provenance::<u64>(black_box(0)).read_volatile() };
    }

    pub fn illegal_instruction() {
        #[cfg(target_arch = "riscv64")]
        // SAFETY: it must fault; the process ends here, and that is the point.
        unsafe {
            core::arch::asm!("unimp")
        };
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        unsafe {
            core::arch::asm!("ud2")
        };
    }

    pub fn panic() {
        panic!("on request");
    }

    pub fn spin() {
        for round in 0u64.. {
            black_box(round);
        }
    }
}
