//! Calls drawn at random by the forms that [`crate::calls`] gives their arguments: mostly sensible, often at a
//! border, sometimes nonsense.
//!
//! What it is: the one grammar of everything that fuzzes system calls, on the machine and on the host.
//! What it is not: it makes no call and judges no answer.
//!
//! Where to start reading: [`Caller::arguments`].

use crate::calls::{Argument, SYSTEM_CALLS, Specification};
use crate::limits::{FOREVER, LEASES_MAX, PAGE_SIZE, USER_END};
use crate::message::{Buffers, CapabilityTransfer, Header, Lease, Registers};
use crate::records::ProcessParameters;
use crate::{Handle, Kind, Rights, SystemCall};

const PAGE: u64 = PAGE_SIZE as u64;
/// Pages in which mappings are tried.
pub const MAP_PAGES: u64 = 96;
/// Where the leases of a call stand in the arena, beyond the buffers that its begin holds.
pub const LEASES_OFFSET: u64 = 512;
/// Pages of mappings: the last are more than the kernel removes in one step.
const MAPPING_PAGES: [u64; 6] = [1, 2, 3, 40, 140, 170];
/// Addresses of the kernel: its window onto RAM and its image.
const KERNEL_ADDRESSES: [u64; 2] = [0xffff_ffc0_0000_0000, 0xffff_ffff_8000_0000];
/// Numbers at which a width, a sign or a limit ends.
const BORDERS: [u64; 10] =
    [1, 63, 64, 65, 4095, 4096, 65_537, u32::MAX as u64, i64::MAX as u64 + 1, u64::MAX - 4095];

/// A generator that is good enough to wander (xorshift64*).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    #[allow(clippy::should_implement_trait)] // it never ends, so it is no iterator
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high bits are the better ones.
        (self.next() >> 16) % bound
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of several; `None` of none.
    pub fn one_of<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        match from.len() as u64 {
            0 => None,
            count => from.get(self.below(count) as usize).copied(),
        }
    }

    /// A size of at most about `most`, often a small one or a border.
    pub fn size(&mut self, most: u64) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => self.one_of(&BORDERS).unwrap_or(0),
            2 => self.next(),
            3 | 4 => self.below(most),
            _ => self.below(64),
        }
    }
}

/// Where the memory of a fuzzing process is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Places {
    /// Memory that calls may read and write as they like; at least 64 KiB and a page.
    pub arena: u64,
    /// Memory that may only be read.
    pub read_only: u64,
    /// The end of memory that may be read and written: what begins before it is half mapped.
    pub edge: u64,
    /// The first of [`MAP_PAGES`] in which mappings come and go.
    pub maps: u64,
}

impl Places {
    /// An address: in the arena, or one that must be refused.
    pub fn address(&self, random: &mut Random) -> u64 {
        match random.below(20) {
            0 => 0,
            1 => random.below(PAGE),
            2 => self.maps + random.below(2 * MAP_PAGES) * PAGE + random.below(16),
            3 => USER_END - random.below(128),
            4 => u64::MAX - random.below(256),
            5 => KERNEL_ADDRESSES[0] + random.below(1 << 30),
            6 => KERNEL_ADDRESSES[1] + random.below(1 << 20),
            7 => self.read_only + random.below(64),
            8 => self.edge - random.below(128),
            9 => random.next(),
            _ => self.in_arena(random),
        }
    }

    /// An address in the first page of the arena.
    pub fn in_arena(&self, random: &mut Random) -> u64 {
        self.arena + random.below(64) * 8
    }
}

/// A capability that a fuzzer has, or had.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Its handle.
    pub handle: Handle,
    /// What it named.
    pub kind: Kind,
}

/// Who makes the calls that are drawn.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Its memory.
    pub places: &'a Places,
    /// Its capabilities, stale ones among them.
    pub known: &'a [Known],
    /// The first entry of its table at which handles are guessed: below may stand what keeps it alive.
    pub guess_from: u32,
    /// Numbers of processes that there may be lie below this.
    pub processes_end: u64,
    /// The clock, in ticks.
    pub now: u64,
    /// Ticks that a wait may take.
    pub patience: u64,
}

/// A call; those that carry messages come as often as all others together.
pub fn any_call(random: &mut Random) -> &'static Specification {
    let wants_message = random.one_in(2);
    loop {
        let call = &SYSTEM_CALLS[random.below(SYSTEM_CALLS.len() as u64) as usize];
        if call.message == wants_message {
            return call;
        }
    }
}

/// The kind of the capability that a call gives to who makes it, where it always gives one.
pub fn given_kind(call: SystemCall) -> Option<Kind> {
    Some(match call {
        SystemCall::EndpointCreate | SystemCall::EndpointMint => Kind::Endpoint,
        SystemCall::NotificationCreate => Kind::Notification,
        SystemCall::VmoCreate | SystemCall::DmaCreate => Kind::Vmo,
        SystemCall::ProcessCreate => Kind::Process,
        SystemCall::ThreadCreate => Kind::Thread,
        SystemCall::DeviceCapCreate => Kind::DeviceMmio,
        SystemCall::IrqCapCreate => Kind::Irq,
        SystemCall::TimerCreate => Kind::Timer,
        _ => return None,
    })
}

impl Caller<'_> {
    /// Arguments for a call; of a message call, those in `a0` to `a3`.
    pub fn arguments(&self, random: &mut Random, call: &Specification) -> [u64; 6] {
        let mut arguments = [0; 6];
        for (place, (_, form)) in arguments.iter_mut().zip(call.arguments) {
            *place = self.argument(random, *form);
        }
        if random.one_in(2) {
            self.make_sensible(random, call.call, &mut arguments);
        }
        if call.message {
            let lends = if call.call == SystemCall::Call && random.one_in(3) {
                if random.one_in(8) { random.below(16) } else { 1 + random.below(2) }
            } else {
                0
            };
            arguments[1] = message_header(random).with_leases(lends as u8).0;
            if !random.one_in(4) {
                arguments[2] = self.handle(random, Some(Kind::Reply)).0;
            }
            arguments[3] = match random.below(8) {
                0 => self.places.address(random),
                1 | 2 => 0,
                _ => self.places.arena,
            };
        }
        arguments
    }

    /// An argument of this form.
    pub fn argument(&self, random: &mut Random, form: Argument) -> u64 {
        match form {
            Argument::Capability(kind, _) => self.handle(random, Some(kind)).0,
            Argument::ThreadOrSelf(_) if !random.one_in(3) => 0,
            Argument::ThreadOrSelf(_) => self.handle(random, Some(Kind::Thread)).0,
            Argument::QosAuthorityOrNone if !random.one_in(3) => 0,
            Argument::QosAuthorityOrNone => self.handle(random, Some(Kind::QosAuthority)).0,
            Argument::AnyCapability => self.handle(random, None).0,
            Argument::ProcessOrSelf(_) if !random.one_in(3) => 0,
            Argument::ProcessOrSelf(_) => self.handle(random, Some(Kind::Process)).0,
            Argument::In(_) | Argument::Out(_) | Argument::InBytes | Argument::OutBytes => {
                self.places.address(random)
            }
            Argument::Bytes => {
                let bytes = random.size(64 * PAGE);
                if random.one_in(2) { bytes & !(PAGE - 1) } else { bytes }
            }
            Argument::Address => match random.below(6) {
                0 => random.next(),
                1 => USER_END - PAGE * random.below(3),
                _ => self.map_address(random),
            },
            Argument::RightsBits => any_rights(random).into(),
            Argument::Deadline => self.deadline(random),
            Argument::Number => match random.below(3) {
                0 => random.next(),
                1 => random.below(4),
                _ => random.size(1 << 20),
            },
        }
    }

    /// Calls whose arguments must fit each other are otherwise hardly ever taken.
    fn make_sensible(&self, random: &mut Random, call: SystemCall, arguments: &mut [u64; 6]) {
        let protections = [Rights::READ, Rights::READ | Rights::WRITE, Rights::EXECUTE];
        let protection = random.one_of(&protections).map_or(0, |rights| rights.bits().into());
        match call {
            SystemCall::VmoMap => {
                arguments[0] = 0;
                arguments[2..].copy_from_slice(&[
                    self.map_address(random),
                    PAGE * random.below(2),
                    PAGE * random.one_of(&MAPPING_PAGES).unwrap_or(1),
                    protection,
                ]);
            }
            SystemCall::VmoProtect => arguments[2] = protection,
            SystemCall::MmioMap => {
                arguments[1..5].copy_from_slice(&[self.map_address(random), 0, PAGE, protection]);
            }
            SystemCall::VmoCreate => {
                arguments[1] = PAGE * if random.one_in(4) { 180 } else { 1 + random.below(40) };
            }
            SystemCall::VmoRead | SystemCall::VmoWrite => {
                arguments[1..4].copy_from_slice(&[random.below(PAGE), self.places.arena, random.below(PAGE)]);
            }
            SystemCall::ThreadCreate => {
                arguments[1..].copy_from_slice(&[self.places.arena, self.places.arena & !15, 0, 1, 0]);
            }
            SystemCall::EndpointCreate => {
                let bytes = random.one_of(&[0, 64, 4096, 65_536]).unwrap_or(0);
                *arguments = [random.below(12), bytes, random.below(5), 0, 0, 0];
            }
            SystemCall::EndpointMint => {
                let rights = (Rights::CALL | Rights::POST).bits().into();
                (arguments[1], arguments[2]) = (1 + random.below(6), rights);
            }
            SystemCall::DeviceCapCreate => {
                arguments[1..4].copy_from_slice(&[
                    self.map_address(random),
                    PAGE * (1 + random.below(2)),
                    random.below(8),
                ]);
            }
            SystemCall::VmoResize => arguments[1] = PAGE * (1 + random.below(200)),
            SystemCall::DmaCreate => arguments[1] = PAGE * (1 + random.below(3)),
            SystemCall::DmaRelease => arguments[1] = u64::from(random.one_in(16)),
            SystemCall::IrqCapCreate => arguments[1] = random.below(40),
            SystemCall::ProcessCreate => arguments[1] = self.places.arena,
            SystemCall::LeaseCopy => {
                let (offset, bytes) = (random.below(PAGE), random.below(2 * PAGE));
                arguments[1..].copy_from_slice(&[
                    random.below(3),
                    offset,
                    self.places.arena,
                    bytes,
                    random.below(2),
                ]);
            }
            SystemCall::LeaseQuery => arguments[1] = random.below(3),
            SystemCall::CapList => arguments[1..3].copy_from_slice(&[self.process_number(random), 0]),
            SystemCall::CapHolders => {
                let handle = Handle::new(random.below(8) as u32, 1 + random.below(2) as u32);
                let out = self.places.in_arena(random);
                arguments[1..].copy_from_slice(&[self.process_number(random), handle.0, 0, 0, out]);
            }
            _ => {}
        }
    }

    /// The registers of a message call, with buffers to be put where the arena begins.
    pub fn message(&self, random: &mut Random, arguments: [u64; 6]) -> (Registers, Buffers) {
        let registers = Registers {
            target: arguments[0],
            header: Header(arguments[1]),
            reply: Handle(arguments[2]),
            buffers: arguments[3],
            words: core::array::from_fn(|_| random.next()),
            deadline: self.deadline(random),
            process_id: random.next(),
        };
        let mut buffers = Buffers {
            send_address: self.places.address(random),
            receive_address: self.places.address(random),
            receive_bytes: if random.one_in(4) { random.size(70_000) } else { 65_536 },
            leases: if random.one_in(8) {
                self.places.address(random)
            } else {
                self.places.arena + LEASES_OFFSET
            },
            ..Buffers::default()
        };
        for transfer in &mut buffers.send_capabilities {
            let handle = self.handle(random, None);
            let rights = if random.one_in(2) { 0 } else { any_rights(random) };
            *transfer = CapabilityTransfer { handle, rights, mode: random.below(2) as u32 };
            if random.one_in(16) {
                transfer.mode = random.next() as u32;
            }
        }
        (registers, buffers)
    }

    /// What a call lends, to be put [`LEASES_OFFSET`] bytes into the arena.
    pub fn leases(&self, random: &mut Random) -> [Lease; LEASES_MAX] {
        core::array::from_fn(|_| {
            let lends_on = random.one_in(8);
            let own = if random.one_in(4) { self.places.address(random) } else { self.places.arena };
            let reply = if lends_on { self.handle(random, Some(Kind::Reply)) } else { Handle::NONE };
            Lease {
                reply,
                address: if lends_on { random.below(PAGE) } else { own },
                bytes: if !random.one_in(4) { 4 * PAGE } else { random.size(4 * PAGE) },
                rights: if random.one_in(8) { any_rights(random) } else { 1 + random.below(3) as u32 },
                index: random.below(3) as u32,
            }
        })
    }

    /// Parameters of a process, to be put where the arena begins.
    pub fn parameters(&self, random: &mut Random) -> ProcessParameters {
        let supervisor = random.one_in(2).then(|| self.handle(random, Some(Kind::Notification)));
        let sensible = !random.one_in(4);
        let mut number = |most: u64| if sensible { random.below(most) } else { random.size(most) };
        ProcessParameters {
            service_id: number(1 << 32),
            quota_pages: number(48),
            supervisor: supervisor.unwrap_or_default(),
            death_bits: number(8),
            rank: number(24) as u32,
            capabilities_max: number(96) as u32,
            open_calls_max: number(4) as u32,
            qos_max: number(4) as u32,
        }
    }

    /// A handle: mostly one of this kind that is or was there.
    pub fn handle(&self, random: &mut Random, kind: Option<Kind>) -> Handle {
        match random.below(24) {
            0 => Handle(random.next()),
            1 => Handle::new(self.guess_from + random.below(64) as u32, random.below(4) as u32),
            2 => Handle::NONE,
            _ => self.known_handle(random, kind),
        }
    }

    fn known_handle(&self, random: &mut Random, kind: Option<Kind>) -> Handle {
        let count = self.known.len() as u64;
        if count == 0 {
            return Handle::NONE;
        }
        let start = random.below(count) as usize;
        let kind = kind.filter(|_| !random.one_in(16));
        let (before, after) = self.known.split_at(start);
        let mut from_there = after.iter().chain(before);
        let fitting = from_there.find(|known| kind.is_none_or(|kind| known.kind == kind));
        fitting.or(self.known.get(start)).map_or(Handle::NONE, |known| known.handle)
    }

    /// The number of a process: one of the youngest.
    fn process_number(&self, random: &mut Random) -> u64 {
        self.processes_end.saturating_sub(1 + random.below(16))
    }

    /// A deadline: over, or soon, or never.
    fn deadline(&self, random: &mut Random) -> u64 {
        match random.below(8) {
            0 => 0,
            1 => self.now,
            2..=4 if self.patience == FOREVER => FOREVER,
            _ => self.now + random.below(self.patience.min(1 << 20)),
        }
    }

    /// A place of a mapping: few, so that what one call mapped another finds.
    fn map_address(&self, random: &mut Random) -> u64 {
        let pages = if random.one_in(2) { 16 } else { 1 };
        self.places.maps + PAGE * (random.below(MAP_PAGES) / pages * pages)
    }
}

/// A header: half of them of a message that every endpoint takes.
fn message_header(random: &mut Random) -> Header {
    let label = random.next() as u16;
    match random.below(8) {
        0..=3 => Header::new(label, random.below(65) as u32, 0),
        4 => Header::new(label, random.below(65) as u32, 1 + random.below(4) as u8),
        5 => Header::new(label, random.below(4097) as u32, random.below(3) as u8),
        6 => Header::new(label, random.size(80_000) as u32, random.below(6) as u8),
        _ => Header(random.next()),
    }
}

/// Bits of rights: all, some, or none that exist.
fn any_rights(random: &mut Random) -> u32 {
    match random.below(4) {
        0 => Rights::all().bits() & random.next() as u32,
        1 => random.next() as u32,
        2 => (Rights::READ | Rights::WRITE).bits(),
        _ => random.one_of(Kind::ALL).map_or(0, |kind| kind.rights().bits()),
    }
}
