//! What a manifest says, as types.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The whole system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The first process.
    pub init: Init,
    /// Everyone else, in the order of the file; who stands earlier is started earlier where the order
    /// of dependencies leaves the choice.
    pub services: Vec<Service>,
}

/// What the manifest says of init itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Init {
    /// Its place in the call order.
    pub rank: u32,
    /// The endpoint that it answers itself.
    pub endpoint: Endpoint,
    /// Endpoints that its second thread may call.
    pub calls: Vec<Access>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name; its service id is made from it.
    pub name: String,
    /// Name of its program in the initial image.
    pub binary: String,
    /// Its place in the call order: calls go strictly down.
    pub rank: u32,
    /// When it is started.
    pub start: StartPolicy,
    /// The boot argument without which it is not started.
    pub condition: Option<String>,
    /// What happens when it ends.
    pub restart: Restart,
    /// Time until it must have said that it is ready, in milliseconds.
    pub ready_ms: u32,
    /// Time after which it counts as hanging when it works and does not say so, in milliseconds; 0: it is not asked.
    pub heartbeat_ms: u32,
    /// What its threads may ask for at the most, and start with.
    pub urgency: Urgency,
    /// The harts on which its threads may run, one bit each; 0: all.
    pub affinity: u32,
    /// Its quotas.
    pub limits: Limits,
    /// Endpoints that it answers.
    pub endpoints: Vec<Endpoint>,
    /// Endpoints that it may call.
    pub calls: Vec<Access>,
    /// Devices that are its alone.
    pub devices: Vec<DeviceNeed>,
    /// What it may do with the machine as a whole.
    pub control: ControlRights,
    /// Files of the initial image that it is given to read.
    pub files: Vec<String>,
    /// As whom it is given every service's log ring to read, if it is.
    pub reads_logs: Option<LogReader>,
    /// Whether it writes its decisions down in an audit ring of its own.
    pub audits: bool,
    /// The service ids of the processes that it may create; only self-tests may.
    pub creates_processes: Option<ServiceIds>,
}

/// A range of service ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceIds {
    /// The first, above 0.
    pub first: u64,
    /// The last, not below the first.
    pub last: u64,
}

/// An endpoint and the operations that it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its name, unique in the system.
    pub name: String,
    /// Bytes of the largest message.
    pub max_bytes: u32,
    /// Capabilities in a message.
    pub max_capabilities: u32,
    /// Pages of its board: memory of init's that its server writes and its callers read, and that outlives both.
    pub board_pages: u32,
    /// Names of the operations; the number of each is its place, beginning with 1.
    pub operations: Vec<String>,
}

/// The right to call an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Name of the endpoint.
    pub endpoint: String,
    /// One bit an operation: bit 1 is operation 1. Bit 0 is never set.
    pub operations: u64,
}

/// A device that a service owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNeed {
    /// Its name for the service: the window is `device.mmio.<name>`, the interrupt `device.irq.<name>`.
    pub name: String,
    /// One of the device tree's `compatible` words.
    pub compatible: String,
    /// For a virtio slot, the number of the device that must stand in it; 0 is an empty slot.
    pub virtio: Option<u32>,
    /// Whether a machine may come without it. Its owner is not started then, and all others are.
    pub optional: bool,
    /// Whether its owner is started without it as well.
    pub dispensable: bool,
    /// Pages for memory that the device reads and writes by itself.
    pub dma_pages: u32,
}

/// virtio's devices by name: their numbers in virtio 1.2, section 5. An empty slot has none.
pub const VIRTIO_DEVICES: &[(&str, u32)] =
    &[("empty", 0), ("network", 1), ("block", 2), ("console", 3), ("entropy", 4)];

impl DeviceNeed {
    /// What the device is, in the words of the policy: `virtio:entropy`, or its `compatible`.
    pub fn resource(&self) -> String {
        match self.virtio {
            None => self.compatible.clone(),
            Some(number) => match VIRTIO_DEVICES.iter().find(|(_, known)| *known == number) {
                Some((name, _)) => format!("virtio:{name}"),
                None => format!("virtio:{number}"),
            },
        }
    }
}

/// Who reads log rings. Of each there is one at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogReader {
    /// Shows lines.
    Console,
    /// Keeps records, and reads the audit rings besides.
    Journal,
}

/// When a service is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartPolicy {
    /// When the system starts.
    Boot,
    /// When init is asked to.
    OnDemand,
}

/// What happens when a service ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// It stays ended.
    Never,
    /// It is started again, at most this many times within a minute; then init gives up on it.
    Always {
        /// Restarts within a minute.
        budget: u32,
    },
}

/// The four classes of urgency; the numbers are those of the kernel's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Urgency {
    /// Runs when nobody else wants to.
    Idle,
    /// The ordinary class.
    Normal,
    /// Answers to people.
    Interactive,
    /// Short bursts that must not wait.
    PerfBurst,
}

/// Quotas of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Pages for everything that it owns: program, stack, heap, tables.
    pub memory_pages: u32,
    /// Pages of its first thread's stack.
    pub stack_pages: u32,
    /// Entries of its capability table.
    pub capabilities: u32,
    /// Calls that it can hold unanswered.
    pub open_calls: u32,
}

/// What a service may do with the machine as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRights {
    /// Read and write the kernel's ring.
    pub log: bool,
    /// Read the machine's figures and those of every process.
    pub inspect: bool,
    /// Reset the machine or power it off.
    pub reset: bool,
}

impl ControlRights {
    /// Whether it may do anything at all.
    pub const fn any(self) -> bool {
        self.log || self.inspect || self.reset
    }
}

impl Manifest {
    /// The service with this name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    /// The endpoint with this name and the service that answers it; `None` for the service is init.
    pub fn endpoint(&self, name: &str) -> Option<(Option<&Service>, &Endpoint)> {
        if self.init.endpoint.name == name {
            return Some((None, &self.init.endpoint));
        }
        self.services.iter().find_map(|service| {
            let endpoint = service.endpoints.iter().find(|endpoint| endpoint.name == name)?;
            Some((Some(service), endpoint))
        })
    }

    /// Pages that all services which may start, their devices and their boards are given together, should all of them
    /// run.
    pub fn memory_pages(&self, may_start: impl Fn(&Service) -> bool) -> u64 {
        let of_service = |service: &Service| {
            let devices = service.devices.iter().map(|device| device.dma_pages);
            let boards = service.endpoints.iter().map(|endpoint| endpoint.board_pages);
            devices.chain(boards).chain([service.limits.memory_pages]).map(u64::from).sum::<u64>()
        };
        self.services.iter().filter(|service| may_start(service)).map(of_service).sum()
    }
}

impl Endpoint {
    /// The bit of the operation with this name.
    pub fn operation_bit(&self, name: &str) -> Option<u64> {
        let place = self.operations.iter().position(|operation| operation == name)?;
        1u64.checked_shl(u32::try_from(place).ok()? + 1)
    }

    /// The bits of every operation.
    pub fn all_operations(&self) -> u64 {
        (1..=self.operations.len() as u32).filter_map(|place| 1u64.checked_shl(place)).sum()
    }
}
