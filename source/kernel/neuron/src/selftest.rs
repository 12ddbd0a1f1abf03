//! What the kernel proves of itself, on the machine that it is about to run, before init does.
//!
//! A scratch process makes real system calls through the same door as every other; nothing is called
//! past the checks. Each test prints its line only after it saw the behaviour; a failure ends the boot.

mod harts;

use crate::arch::Arch;
use crate::kernel::{Hart, Kernel};
use crate::line;
use crate::memory::{Id, PhysicalAddress};
use crate::object::capability::Capability;
use crate::object::{Process, Thread};
use crate::sync::{Held, Nothing};
use nexus_abi::capability::Qos;
use nexus_abi::limits::{PAGE_SIZE, USER_END};
use nexus_abi::records::{ProcessParameters, RingLevel, STATE_KILLED};
use nexus_abi::{Error, Handle, Kind, Rights, SystemCall};

const PAGE: u64 = PAGE_SIZE as u64;
/// Where the scratch process has its memory.
const BASE: u64 = 0x10_0000;
const WINDOW: u64 = 0x20_0000;
const QUOTA_PAGES: u64 = 128;
/// The one service id that processes of the self-tests may have.
const SPAWNED: u64 = nexus_abi::service_id("kernel-selftest-child");
/// Rounds after which every count must be what it was.
const SENTINEL_ROUNDS: u32 = 256;
const READ: u64 = Rights::READ.bits() as u64;
const WRITE: u64 = Rights::WRITE.bits() as u64;
const EXECUTE: u64 = Rights::EXECUTE.bits() as u64;

type Test<A> = fn(&mut Bench<'_, '_, A>) -> Result<(), &'static str>;

/// Runs every self-test; each prints its line. A failure is a kernel bug and stops the machine.
pub fn run<A: Arch>(kernel: &Kernel<A>, hart: &mut Hart, held: &mut Held<'_, Nothing>) {
    let tests: [(&str, Test<A>); 10] = [
        ("vmo zero", vmo_zero),
        ("userptr guard", user_pointer_guard),
        ("w^x enforced", write_execute),
        ("test_reject_mmio_outside_window", mmio_outside_window),
        ("test_reject_mmio_exec", mmio_executable),
        ("test_reject_mmio_no_cap", mmio_without_capability),
        ("test_reject_device_window_of_ram", device_window_of_ram),
        ("test_reject_stale_handle", stale_handle),
        ("spawn reasons", spawn_reasons),
        ("resource sentinel", resource_sentinel),
    ];
    let free = kernel.memory.free_count();
    for (name, test) in tests {
        prove(kernel, hart, held, (name, test));
    }
    if kernel.online() > 1 {
        for test in harts::tests() {
            prove(kernel, hart, held, test);
        }
    }
    assert_eq!(free, kernel.memory.free_count(), "KSELFTEST: FAIL: the self-tests left frames behind");
}

fn prove<A: Arch>(
    kernel: &Kernel<A>,
    hart: &mut Hart,
    held: &mut Held<'_, Nothing>,
    (name, test): (&str, Test<A>),
) {
    let mut bench = Bench::new(kernel, hart, held);
    let outcome = test(&mut bench);
    bench.end();
    match outcome {
        Ok(()) => kernel.say(hart, held, RingLevel::Info, &line!("KSELFTEST: {name} ok")),
        Err(what) => panic!("KSELFTEST: FAIL {name}: {what}"),
    }
}

/// A scratch process whose only thread makes system calls by hand.
struct Bench<'a, 'h, A: Arch> {
    kernel: &'a Kernel<A>,
    hart: &'a mut Hart,
    held: &'a mut Held<'h, Nothing>,
    process: Id<Process>,
    thread: Id<Thread>,
}

impl<'a, 'h, A: Arch> Bench<'a, 'h, A> {
    fn new(kernel: &'a Kernel<A>, hart: &'a mut Hart, held: &'a mut Held<'h, Nothing>) -> Self {
        let parameters = ProcessParameters {
            service_id: nexus_abi::service_id("kernel-selftest"),
            quota_pages: QUOTA_PAGES,
            capabilities_max: 64,
            open_calls_max: 4,
            qos_max: Qos::PerfBurst as u32,
            ..ProcessParameters::default()
        };
        let made = kernel.new_process(held, kernel.root, &parameters).and_then(|process| {
            kernel.new_thread(held, process, [BASE, BASE, 0], Qos::Normal).map(|thread| (process, thread))
        });
        match made {
            Ok((process, thread)) => Bench { kernel, hart, held, process, thread },
            Err(error) => panic!("KSELFTEST: FAIL: no scratch process: {error}"),
        }
    }

    /// Makes a system call as the scratch process.
    fn call(&mut self, call: SystemCall, arguments: &[u64]) -> Result<u64, Error> {
        if let Some((mut thread, _)) = self.kernel.lock(self.held, self.thread) {
            thread.context.set_program_counter(BASE);
            thread.context.set_argument(7, call as u64);
            for index in 0..6 {
                thread.context.set_argument(index, arguments.get(index).copied().unwrap_or(0));
            }
        }
        while self.program_counter() == BASE {
            self.kernel.note_running(self.hart, Some(self.thread));
            self.kernel.system_call(self.hart, self.held);
            self.kernel.note_running(self.hart, None);
            self.kernel.let_others_in(self.hart, self.held);
        }
        let registers = self.kernel.lock(self.held, self.thread);
        let (error, value) =
            registers.map_or((0, 0), |(t, _)| (t.context.argument(0), t.context.argument(1)));
        if error == 0 { Ok(value) } else { Err(Error::from_number(error).unwrap_or(Error::UnknownCall)) }
    }

    fn program_counter(&mut self) -> u64 {
        self.kernel.lock(self.held, self.thread).map_or(0, |(thread, _)| thread.context.program_counter())
    }

    fn give(&mut self, kind: Kind) -> Handle {
        let capability = Capability::new(kind, kind.rights(), 0);
        match self.kernel.insert_into(self.held, self.process, 0, capability) {
            Ok(handle) => handle,
            Err(error) => panic!("KSELFTEST: FAIL: no capability: {error}"),
        }
    }

    /// Memory of so many pages, mapped readable and writable at [`BASE`].
    fn memory(&mut self, pages: u64) -> Result<u64, &'static str> {
        let vmo = self.call(SystemCall::VmoCreate, &[0, pages * PAGE]).map_err(|_| "vmo_create")?;
        self.call(SystemCall::VmoMap, &[0, vmo, BASE, 0, pages * PAGE, READ | WRITE])
            .map_err(|_| "vmo_map")?;
        Ok(vmo)
    }

    /// A capability for a window that lies beyond RAM: it is mapped, never touched.
    fn window(&mut self, pages: u64) -> Result<u64, &'static str> {
        let authority = self.give(Kind::DeviceAuthority).0;
        let beyond = self.kernel.memory.address(self.kernel.memory.frame_count());
        self.call(SystemCall::DeviceCapCreate, &[authority, beyond.0, pages * PAGE])
            .map_err(|_| "device_cap_create")
    }

    /// Writes a structure to [`BASE`].
    fn put(&mut self, parameters: &ProcessParameters) -> Result<(), &'static str> {
        let written = self.kernel.write_record(&mut self.held.above(), self.process, BASE, parameters);
        written.map_err(|_| "its memory cannot be written")
    }

    fn expect(
        &mut self,
        call: SystemCall,
        arguments: &[u64],
        error: Error,
        what: &'static str,
    ) -> Result<(), &'static str> {
        if self.call(call, arguments) == Err(error) { Ok(()) } else { Err(what) }
    }

    fn end(self) {
        {
            let (mut structure, mut held) = self.kernel.structure(self.held);
            self.kernel.end_process(&mut structure, &mut held, self.process, STATE_KILLED, 0);
        }
        // Those of its threads that run elsewhere are called off first.
        while self.kernel.memory.shared(self.process).is_some() {
            while self.kernel.reclaim_step(self.hart, self.held) {}
            self.kernel.let_others_in(self.hart, self.held);
        }
    }
}

fn vmo_zero<A: Arch>(bench: &mut Bench<'_, '_, A>) -> Result<(), &'static str> {
    let vmo = bench.memory(4)?;
    let target = BASE + 3 * PAGE;
    let mark = [0xa5u8; 64];
    let write = |bench: &mut Bench<'_, '_, A>| {
        bench.kernel.write_user(&mut bench.held.above(), bench.process, target, &mark)
    };
    write(bench).map_err(|_| "its memory cannot be written")?;
    bench.call(SystemCall::VmoRead, &[vmo, 0, target, 64]).map_err(|_| "vmo_read")?;
    let mut seen = [0xffu8; 64];
    bench
        .kernel
        .read_user(&mut bench.held.above(), bench.process, target, &mut seen)
        .map_err(|_| "its memory cannot be read")?;
    if seen == [0; 64] { Ok(()) } else { Err("fresh memory is not zero") }
}

fn user_pointer_guard<A: Arch>(bench: &mut Bench<'_, '_, A>) -> Result<(), &'static str> {
    let vmo = bench.memory(1)?;
    let read = |address| [vmo, 0, address, 64];
    let kernel = u64::MAX << 38;
    for (address, what) in [
        (0, "a null pointer was taken"),
        (WINDOW, "an unmapped address was taken"),
        (BASE + PAGE - 32, "a half-mapped buffer was taken"),
        (kernel, "a kernel address was taken"),
        (USER_END, "an address beyond user memory was taken"),
        (u64::MAX - 31, "a wrapping buffer was taken"),
    ] {
        bench.expect(SystemCall::VmoRead, &read(address), Error::Fault, what)?;
    }
    bench.call(SystemCall::VmoProtect, &[0, BASE, READ]).map_err(|_| "vmo_protect")?;
    bench.expect(SystemCall::VmoRead, &read(BASE), Error::Fault, "read-only memory was written")
}

fn write_execute<A: Arch>(bench: &mut Bench<'_, '_, A>) -> Result<(), &'static str> {
    let vmo = bench.memory(1)?;
    let both = WRITE | EXECUTE;
    let map = [0, vmo, WINDOW, 0, PAGE, both];
    bench.expect(SystemCall::VmoMap, &map, Error::WriteExecute, "a writable, executable mapping was made")?;
    let protect = [0, BASE, READ | both];
    bench.expect(SystemCall::VmoProtect, &protect, Error::WriteExecute, "memory became writable, executable")
}

fn mmio_outside_window<A: Arch>(bench: &mut Bench<'_, '_, A>) -> Result<(), &'static str> {
    let device = bench.window(2)?;
    for (offset, bytes) in [(0, 3 * PAGE), (2 * PAGE, PAGE), (PAGE, 2 * PAGE), (!(PAGE - 1), PAGE)] {
        let map = [device, WINDOW, offset, bytes, READ | WRITE];
        bench.expect(SystemCall::MmioMap, &map, Error::OutOfRange, "a mapping reaches beyond the window")?;
    }
    bench.call(SystemCall::MmioMap, &[device, WINDOW, PAGE, PAGE, READ | WRITE]).map_err(|_| "mmio_map")?;
    Ok(())
}

fn mmio_executable<A: Arch>(bench: &mut Bench<'_, '_, A>) -> Result<(), &'static str> {
    let device = bench.window(1)?;
    let map = [device, WINDOW, 0, PAGE, READ | EXECUTE];
    bench.expect(SystemCall::MmioMap, &map, Error::WriteExecute, "registers were mapped executable")
}

fn mmio_without_capability<A: Arch>(bench: &mut Bench<'_, '_, A>) -> Result<(), &'static str> {
    let device = bench.window(1)?;
    let vmo = bench.memory(1)?;
    let none = bench.call(SystemCall::CapDup, &[device, 0]).map_err(|_| "cap_dup")?;
    for (handle, error, what) in [
        (0, Error::InvalidHandle, "registers were mapped without a handle"),
        (Handle::new(63, 1).0, Error::InvalidHandle, "registers were mapped by an empty entry"),
        (vmo, Error::WrongKind, "memory passed for a device"),
        (none, Error::NotPermitted, "registers were mapped without the right to"),
    ] {
        bench.expect(SystemCall::MmioMap, &[handle, WINDOW, 0, PAGE, READ], error, what)?;
    }
    Ok(())
}

fn device_window_of_ram<A: Arch>(bench: &mut Bench<'_, '_, A>) -> Result<(), &'static str> {
    let authority = bench.give(Kind::DeviceAuthority).0;
    let PhysicalAddress(ram) = bench.kernel.memory.address(1);
    let window = [authority, ram, PAGE];
    bench.expect(SystemCall::DeviceCapCreate, &window, Error::NotPermitted, "RAM passed for a device")
}

fn stale_handle<A: Arch>(bench: &mut Bench<'_, '_, A>) -> Result<(), &'static str> {
    let first = bench.call(SystemCall::NotificationCreate, &[]).map_err(|_| "notification_create")?;
    bench.call(SystemCall::CapClose, &[first]).map_err(|_| "cap_close")?;
    let second = bench.call(SystemCall::NotificationCreate, &[]).map_err(|_| "notification_create")?;
    if first == second {
        return Err("a handle was given twice");
    }
    let signal = [first, 1];
    bench.expect(SystemCall::NotificationSignal, &signal, Error::StaleHandle, "a stale handle was taken")
}

/// Each way in which making a process can fail is provoked by the calls that make one, and told apart by which of
/// them answers what.
fn spawn_reasons<A: Arch>(bench: &mut Bench<'_, '_, A>) -> Result<(), &'static str> {
    bench.memory(1)?;
    let mut authority = Capability::new(Kind::ProcessAuthority, Rights::CREATE, SPAWNED);
    authority.badge = SPAWNED;
    let authority = bench.kernel.insert_into(bench.held, bench.process, 0, authority);
    let create = [authority.map_err(|_| "a process authority")?.0, BASE];
    let good = ProcessParameters {
        service_id: SPAWNED,
        quota_pages: 8,
        capabilities_max: 1,
        qos_max: Qos::Normal as u32,
        ..ProcessParameters::default()
    };
    for (parameters, error, what) in [
        (ProcessParameters { quota_pages: QUOTA_PAGES, ..good }, Error::NoMemory, "memory ran out unnoticed"),
        (ProcessParameters { rank: u32::MAX, ..good }, Error::InvalidArgument, "nonsense made a process"),
        (ProcessParameters { service_id: 1, ..good }, Error::NotPermitted, "a forbidden identity was given"),
    ] {
        bench.put(&parameters)?;
        bench.expect(SystemCall::ProcessCreate, &create, error, what)?;
    }
    bench.put(&good)?;
    let child = bench.call(SystemCall::ProcessCreate, &create).map_err(|_| "process_create")?;
    let large = [child, 8 * PAGE];
    bench.expect(SystemCall::VmoCreate, &large, Error::NoMemory, "its quota holds more than it has")?;
    let vmo = bench.call(SystemCall::VmoCreate, &[child, PAGE]).map_err(|_| "vmo_create")?;
    let map = [child, vmo, BASE, 0, PAGE, READ];
    bench.call(SystemCall::VmoMap, &map).map_err(|_| "vmo_map")?;
    bench.expect(SystemCall::VmoMap, &map, Error::Overlap, "a mapping was made over another")?;
    let hand_over = [child, vmo, READ];
    bench.call(SystemCall::CapTransferTo, &hand_over).map_err(|_| "cap_transfer_to")?;
    bench.expect(SystemCall::CapTransferTo, &hand_over, Error::NoSlots, "a full table took one more")?;
    let outside = [child, USER_END, BASE, 0, Qos::Normal as u64];
    bench.expect(SystemCall::ThreadCreate, &outside, Error::InvalidArgument, "it began in the kernel")
}

/// Creates and closes everything a process can, many times: every count must be what it was.
fn resource_sentinel<A: Arch>(bench: &mut Bench<'_, '_, A>) -> Result<(), &'static str> {
    let counts = |bench: &mut Bench<'_, '_, A>| {
        let status = bench.kernel.status_of(bench.held, bench.process);
        let status = status.map(|s| (s.reserved_pages, s.populated_pages, s.capabilities));
        (bench.kernel.memory.free_count(), status)
    };
    let mut before = None;
    for round in 0..SENTINEL_ROUNDS {
        let vmo = bench.memory(5)?;
        let address = BASE + 4 * PAGE;
        bench.call(SystemCall::VmoRead, &[vmo, 0, address, 8]).map_err(|_| "vmo_read")?;
        let notification = bench.call(SystemCall::NotificationCreate, &[]).map_err(|_| "notification")?;
        let timer = bench.call(SystemCall::TimerCreate, &[notification, 1]).map_err(|_| "timer_create")?;
        let copy = bench.call(SystemCall::CapDup, &[vmo, READ]).map_err(|_| "cap_dup")?;
        let endpoint = bench.call(SystemCall::EndpointCreate, &[0, 64, 0]).map_err(|_| "endpoint_create")?;
        let badged = [endpoint, u64::from(round) + 1, Rights::CALL.bits().into()];
        let badged = bench.call(SystemCall::EndpointMint, &badged).map_err(|_| "endpoint_mint")?;
        bench.call(SystemCall::VmoUnmap, &[0, BASE]).map_err(|_| "vmo_unmap")?;
        for handle in [vmo, copy, timer, notification, badged, endpoint] {
            bench.call(SystemCall::CapClose, &[handle]).map_err(|_| "cap_close")?;
        }
        while bench.kernel.reclaim_step(bench.hart, bench.held) {}
        // The first rounds fill slabs and table up to their size.
        let now = counts(bench);
        if round > 0 && before.is_some_and(|before| before != now) {
            return Err("a count is not what it was");
        }
        before = Some(now);
    }
    Ok(())
}
