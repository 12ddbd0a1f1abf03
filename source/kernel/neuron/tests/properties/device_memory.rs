//! Memory of a device against its accounts: whatever drivers and their supervisor do, each page that the device
//! was promised is free, reachable or in quarantine, and nothing in quarantine is in the pool.

use neuron::memory::{FrameKind, PhysicalAddress};
use neuron::testing::{Actor, Machine, PAGE, SCRATCH};
use nexus_abi::records::CapabilityInfo;
use nexus_abi::{Error, Kind, Rights, SystemCall};
use proptest::prelude::*;

const WINDOW: u64 = 0x1000_0000;
const PROMISED: u64 = 24;
const READ: u64 = Rights::READ.bits() as u64;

#[derive(Clone, Debug)]
enum Step {
    Create(u64),
    /// Copies one of the capabilities, chosen by this number.
    Copy(usize),
    Close(usize),
    /// Maps one of them, in place of what was mapped before.
    Map(usize),
    Restart,
    Revoke,
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..10u64).prop_map(Step::Create),
        2 => any::<usize>().prop_map(Step::Copy),
        4 => any::<usize>().prop_map(Step::Close),
        2 => any::<usize>().prop_map(Step::Map),
        1 => Just(Step::Restart),
        1 => Just(Step::Revoke),
        2 => Just(Step::Reset),
    ]
}

/// Memory that the driver reaches: by how many handles, and whether by its mapping.
struct Memory {
    pages: u64,
    first: u32,
    handles: Vec<u64>,
    mapped: bool,
}

struct Bench {
    machine: Machine,
    supervisor: Actor,
    window: u64,
    driver: (Actor, u64),
    live: Vec<Memory>,
    /// First frame and pages of what only the device reaches.
    quarantine: Vec<(u32, u64)>,
}

impl Bench {
    fn new() -> Self {
        let mut machine = Machine::new();
        let supervisor = machine.process();
        let authority = machine.give_root(supervisor, Kind::DeviceAuthority);
        let create = [authority, WINDOW, PAGE, PROMISED];
        let window = machine.call(supervisor, SystemCall::DeviceCapCreate, &create).expect("a free window");
        let driver = driver(&mut machine, supervisor, window);
        Bench { machine, supervisor, window, driver, live: Vec::new(), quarantine: Vec::new() }
    }

    fn call(&mut self, call: SystemCall, arguments: &[u64]) -> Result<u64, Error> {
        self.machine.call(self.driver.0, call, arguments)
    }

    fn used(&self) -> u64 {
        let live = self.live.iter().map(|memory| memory.pages).sum::<u64>();
        live + self.quarantine.iter().map(|(_, pages)| pages).sum::<u64>()
    }

    /// What nobody reaches any more is in quarantine.
    fn forget(&mut self) {
        let gone = |memory: &mut Memory| memory.handles.is_empty() && !memory.mapped;
        self.quarantine.extend(self.live.extract_if(.., gone).map(|memory| (memory.first, memory.pages)));
    }

    fn lose_all(&mut self) {
        self.live.iter_mut().for_each(|memory| (memory.handles, memory.mapped) = (Vec::new(), false));
        self.forget();
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Create(pages) => {
                let fits = self.used() + pages <= PROMISED;
                let created = self.call(SystemCall::DmaCreate, &[self.driver.1, pages * PAGE]);
                prop_assert_eq!(created.as_ref().err(), (!fits).then_some(&Error::NoMemory));
                let Ok(handle) = created else { return Ok(()) };
                let address = self.call(SystemCall::DmaAddress, &[handle]).expect("PHYSICAL");
                let first = self.machine.kernel.memory.frame(PhysicalAddress(address)).expect("RAM");
                self.live.push(Memory { pages, first, handles: vec![handle], mapped: false });
            }
            Step::Reset => {
                let released = [self.window, 0];
                let outcome = self.machine.call(self.supervisor, SystemCall::DmaRelease, &released);
                prop_assert_eq!(outcome, Ok(0));
                self.quarantine.clear();
            }
            Step::Restart => {
                self.machine.kill(self.driver.0.process);
                self.machine.settle();
                self.lose_all();
                self.driver = driver(&mut self.machine, self.supervisor, self.window);
            }
            Step::Revoke => {
                let outcome = self.machine.call(self.supervisor, SystemCall::CapRevoke, &[self.window]);
                prop_assert_eq!(outcome, Ok(0));
                self.lose_all();
                let map = Rights::MAP;
                self.driver.1 = self.machine.hand(self.supervisor, self.window, self.driver.0, map);
            }
            Step::Copy(choice) | Step::Close(choice) | Step::Map(choice) => self.with_one(step, choice),
        }
        Ok(())
    }

    /// Copies, closes or maps one of the capabilities, if there is one.
    fn with_one(&mut self, step: &Step, choice: usize) {
        let handles = self
            .live
            .iter()
            .enumerate()
            .flat_map(|(place, memory)| memory.handles.iter().map(move |&handle| (place, handle)));
        let handles: Vec<(usize, u64)> = handles.collect();
        if handles.is_empty() {
            return;
        }
        let (place, handle) = handles[choice % handles.len()];
        match step {
            Step::Copy(_) => {
                let copy = self.call(SystemCall::CapDup, &[handle, READ]).expect("room");
                self.live[place].handles.push(copy);
            }
            Step::Close(_) => {
                self.call(SystemCall::CapClose, &[handle]).expect("its own");
                self.live[place].handles.retain(|&other| other != handle);
            }
            _ => {
                if let Some(mapped) = self.live.iter_mut().find(|memory| memory.mapped) {
                    mapped.mapped = false;
                    self.call(SystemCall::VmoUnmap, &[0, WINDOW]).expect("what was mapped");
                }
                let map = [0, handle, WINDOW, 0, self.live[place].pages * PAGE, READ];
                self.call(SystemCall::VmoMap, &map).expect("free addresses");
                self.live[place].mapped = true;
            }
        }
        self.forget();
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        self.machine.call(self.supervisor, SystemCall::CapQuery, &[self.window, SCRATCH]).expect("alive");
        let info: CapabilityInfo = self.machine.get(self.supervisor, SCRATCH);
        prop_assert_eq!(info.badge, self.quarantine.iter().map(|(_, pages)| pages).sum::<u64>());
        let live = self.live.iter().map(|memory| (memory.first, memory.pages));
        for (first, pages) in live.chain(self.quarantine.iter().copied()) {
            for frame in first..first + pages as u32 {
                let kind = self.machine.kernel.memory.info(frame).kind();
                prop_assert_eq!(kind, FrameKind::Data as u8, "frame {} was given on", frame);
            }
        }
        Ok(())
    }
}

fn driver(machine: &mut Machine, supervisor: Actor, window: u64) -> (Actor, u64) {
    let driver = machine.process();
    (driver, machine.hand(supervisor, window, driver, Rights::MAP))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_promised_page_is_free_reachable_or_in_quarantine(steps in prop::collection::vec(step(), 1..60)) {
        let mut bench = Bench::new();
        bench.step(&Step::Create(PROMISED))?;
        bench.step(&Step::Restart)?;
        bench.step(&Step::Reset)?;
        bench.check()?;
        let before = bench.machine.kernel.memory.free_count();
        for step in &steps {
            bench.step(step)?;
            bench.check()?;
        }
        bench.step(&Step::Restart)?;
        bench.step(&Step::Reset)?;
        prop_assert_eq!(bench.machine.kernel.memory.free_count(), before);
    }
}
