//! What init creates once and owns for good: endpoints, access tables, rings, device capabilities. They
//! outlive the processes that use them, so a restarted service finds its callers waiting.

use crate::devices::{self, Device, DeviceError};
use crate::supervisor::may_ever_start;
use crate::virtio::{QuietError, Slots};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use nexus_abi::image::{INIT, Image};
use nexus_abi::limits::{PAGE_SIZE, TRANSFER_BYTES_MAX};
use nexus_abi::{Error, Handle, Kind, Rights, service_id, system};
use nexus_ipc::AccessEntry;
use nexus_log::{READERS_OFFSET, RING_BYTES, Reader};
use nexus_rt::FILE_LENGTH_BYTES;
use system_manifest::{DeviceNeed, Endpoint, LogReader, Manifest, Service, ServiceIds};
use zerocopy::IntoBytes;

/// A capability that a service is handed, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its name in the start page.
    pub name: String,
    /// Init's own capability.
    pub handle: Handle,
    /// What it is.
    pub kind: Kind,
    /// The rights that the service gets.
    pub rights: Rights,
}

/// Why the system's objects could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceError {
    /// The kernel refused an object.
    Kernel {
        /// What it was for.
        what: String,
        /// The refusal.
        error: Error,
    },
}

/// Everything of one service.
#[derive(Debug, Default)]
struct Owned {
    ring: Handle,
    audit_ring: Option<AuditRing>,
    files: Vec<(String, Handle)>,
    endpoints: Vec<OwnedEndpoint>,
    devices: Vec<OwnedDevice>,
    /// The right to create processes, narrowed to its range of service ids.
    authority: Option<Handle>,
    /// The right to raise threads, narrowed to its own class.
    urgency: Option<Handle>,
}

/// Where a service's decisions are written down.
#[derive(Clone, Copy, Debug)]
struct AuditRing {
    ring: Handle,
    /// Rings when the journal has made what is critical durable, or will not.
    kept: Handle,
}

#[derive(Clone, Debug)]
struct OwnedEndpoint {
    name: String,
    endpoint: Handle,
    access: Handle,
    board: Option<Handle>,
}

#[derive(Debug)]
struct OwnedDevice {
    name: String,
    window: Handle,
    irq: Option<Handle>,
    /// Whether init knows how it is reset.
    is_virtio: bool,
}

/// Everything of everyone, by the manifest's order of services.
pub struct Resources {
    /// Init's own endpoint.
    pub init_endpoint: Handle,
    /// Each rings when its reader has read a ring and the next record comes; by [`LogReader`].
    doorbells: [Handle; 2],
    /// Rings for init when the journal has made what is critical durable, or will not.
    grants_kept: Handle,
    /// Init's own capability for the machine as a whole.
    control: Handle,
    slots: Slots,
    services: Vec<Owned>,
}

impl Resources {
    /// Creates what the manifest asks for. A device that cannot be had is told by `missing`, with the reason.
    #[expect(clippy::too_many_arguments, reason = "they are what the kernel gave init")]
    pub fn create(
        manifest: &Manifest,
        control: Handle,
        (authority, urgency): (Handle, Handle),
        device_authority: Handle,
        mut slots: Slots,
        tree: &[u8],
        image: &Image<'_>,
        mut missing: impl FnMut(&Service, &DeviceNeed, &str),
    ) -> Result<Self, ResourceError> {
        let init_endpoint = endpoint(manifest.init.rank, &manifest.init.endpoint)?;
        let doorbell = || made("a log doorbell", system::notification_create());
        let doorbells = [doorbell()?, doorbell()?];
        let grants_kept = made("the bell of init", system::notification_create())?;
        let readers = readers(manifest);
        let mut given = devices::Given::new();
        let mut services = Vec::new();
        for service in &manifest.services {
            let mut owned = Owned { ring: ring(&service.name, "ring", readers)?, ..Owned::default() };
            if service.audits {
                let what = format!("the bell of {}", service.name);
                let kept = made(&what, system::notification_create())?;
                owned.audit_ring = Some(AuditRing { ring: ring(&service.name, "audit ring", 0)?, kept });
            }
            for served in &service.endpoints {
                owned.endpoints.push(OwnedEndpoint {
                    name: served.name.clone(),
                    endpoint: endpoint(service.rank, served)?,
                    access: access_memory(manifest, served)?,
                    board: board(served)?,
                });
            }
            for name in &service.files {
                owned.files.push((name.clone(), file(image, name)?));
            }
            for need in &service.devices {
                match device(device_authority, &mut slots, tree, need, &mut given) {
                    Ok(found) => owned.devices.push(found),
                    Err(reason) => missing(service, need, reason),
                }
            }
            if let Some(ids) = service.creates_processes {
                owned.authority = Some(narrowed(authority, manifest, service, ids)?);
                let narrow = system::authority_narrow(urgency, 0, service.urgency as u64);
                owned.urgency = Some(made(&format!("the urgency of {}", service.name), narrow)?);
            }
            services.push(owned);
        }
        Ok(Resources { init_endpoint, doorbells, grants_kept, control, slots, services })
    }

    /// The devices of the service that could not be had.
    pub fn missing_devices<'a>(
        &'a self,
        index: usize,
        service: &'a Service,
    ) -> impl Iterator<Item = &'a DeviceNeed> {
        let owned = self.services.get(index).map_or(&[][..], |owned| &owned.devices);
        service.devices.iter().filter(|need| !owned.iter().any(|device| device.name == need.name))
    }

    /// Makes sure that no device of this service, which has no process, goes on reading or writing memory for a
    /// process that is gone. Yields the name of the first device that could not be quieted, and why.
    pub fn quiet_devices(&self, index: usize) -> Result<(), (&str, QuietError)> {
        let mut devices = self.services.get(index).into_iter().flat_map(|owned| &owned.devices);
        devices.try_for_each(|device| match device.is_virtio {
            true => self.slots.quiet(device.window).map_err(|error| (device.name.as_str(), error)),
            false => Ok(()),
        })
    }

    /// Exactly what the manifest entry says.
    pub fn grants(&self, manifest: &Manifest, index: usize, service: &Service) -> Vec<Grant> {
        let mut grants = Vec::new();
        let mut grant =
            |name: String, handle, kind, rights| grants.push(Grant { name, handle, kind, rights });
        grant("ready".into(), self.init_endpoint, Kind::Endpoint, Rights::POST);
        if service.heartbeat_ms > 0 {
            grant("alive".into(), self.init_endpoint, Kind::Endpoint, Rights::POST);
        }
        if let Some(owned) = self.services.get(index) {
            grant("log-ring".into(), owned.ring, Kind::Vmo, Rights::READ | Rights::WRITE);
            if let Some(AuditRing { ring, kept }) = owned.audit_ring {
                grant("audit-ring".into(), ring, Kind::Vmo, Rights::READ | Rights::WRITE);
                grant("audit-kept".into(), kept, Kind::Notification, Rights::WAIT);
            }
            for served in &owned.endpoints {
                // Who mints sessions holds what they give; calling itself is what ranks forbid.
                let rights = Rights::RECEIVE | Rights::MINT | Rights::CALL;
                grant(format!("serve/{}", served.name), served.endpoint, Kind::Endpoint, rights);
                grant(format!("access/{}", served.name), served.access, Kind::Vmo, Rights::READ);
                if let Some(board) = served.board {
                    let rights = Rights::READ | Rights::WRITE;
                    grant(format!("board/{}", served.name), board, Kind::Vmo, rights);
                }
            }
            for (name, file) in &owned.files {
                grant(format!("file/{name}"), *file, Kind::Vmo, Rights::READ);
            }
            for device in &owned.devices {
                grant(format!("device.mmio.{}", device.name), device.window, Kind::DeviceMmio, Rights::MAP);
                if let Some(irq) = device.irq {
                    let rights = Rights::BIND | Rights::ACKNOWLEDGE;
                    grant(format!("device.irq.{}", device.name), irq, Kind::Irq, rights);
                }
            }
        }
        for access in &service.calls {
            if let Some(endpoint) = self.endpoint(manifest, &access.endpoint) {
                grant(format!("call/{}", access.endpoint), endpoint, Kind::Endpoint, Rights::CALL);
            }
            if let Some(board) = self.served(&access.endpoint).and_then(|served| served.board) {
                grant(format!("board/{}", access.endpoint), board, Kind::Vmo, Rights::READ);
            }
        }
        if service.control.any() {
            grant("system".into(), self.control, Kind::SystemControl, control_rights(service));
        }
        if let Some(authority) = self.services.get(index).and_then(|owned| owned.authority) {
            grant("process-authority".into(), authority, Kind::ProcessAuthority, Rights::CREATE);
        }
        if let Some(urgency) = self.services.get(index).and_then(|owned| owned.urgency) {
            grant("qos-authority".into(), urgency, Kind::QosAuthority, Rights::MANAGE);
        }
        for (reader, name) in [(LogReader::Console, "log-doorbell"), (LogReader::Journal, "journal-doorbell")]
        {
            let listens = if service.reads_logs == Some(reader) { Rights::WAIT } else { Rights::empty() };
            let doorbell = self.doorbells[reader as usize];
            grant(name.into(), doorbell, Kind::Notification, Rights::SIGNAL | listens);
        }
        let Some(reader) = service.reads_logs else { return grants };
        if reader == LogReader::Journal {
            grant(format!("kept/{INIT}"), self.grants_kept, Kind::Notification, Rights::SIGNAL);
        }
        for (other, owned) in manifest.services.iter().zip(&self.services) {
            let rights = Rights::READ | Rights::WRITE;
            grant(format!("ring/{}", other.name), owned.ring, Kind::Vmo, rights);
            if let Some(AuditRing { ring, kept }) = owned.audit_ring.filter(|_| reader == LogReader::Journal)
            {
                grant(format!("audit/{}", other.name), ring, Kind::Vmo, rights);
                grant(format!("kept/{}", other.name), kept, Kind::Notification, Rights::SIGNAL);
            }
        }
        grants
    }

    /// Who has read the log rings until now reads them no more: they go on for the other reader. Audit rings
    /// do not: without the journal there is no slot, and the decision is no.
    pub fn reads_no_more(&self, manifest: &Manifest, reader: LogReader) -> Result<(), Error> {
        let left = readers(manifest) & !bit(reader);
        self.services.iter().try_for_each(|owned| set_readers(owned.ring, left))
    }

    /// Fails every waiting and every later call to a service that init gave up on.
    pub fn seal(&self, index: usize) -> Result<(), Error> {
        let mut endpoints = self.services.get(index).into_iter().flat_map(|owned| &owned.endpoints);
        endpoints.try_for_each(|served| system::endpoint_seal(served.endpoint))
    }

    /// Where whoever serves this endpoint writes down what it decides, and what rings for init when that is durable.
    pub fn record(&self, endpoint: &str) -> Option<(Handle, Handle)> {
        let serves = |owned: &&Owned| owned.endpoints.iter().any(|served| served.name == endpoint);
        let ring = self.services.iter().find(serves)?.audit_ring?.ring;
        Some((ring, self.grants_kept))
    }

    /// The endpoint of this name.
    pub fn endpoint(&self, manifest: &Manifest, name: &str) -> Option<Handle> {
        if manifest.init.endpoint.name == name {
            return Some(self.init_endpoint);
        }
        self.served(name).map(|served| served.endpoint)
    }

    fn served(&self, name: &str) -> Option<&OwnedEndpoint> {
        let mut all = self.services.iter().flat_map(|owned| &owned.endpoints);
        all.find(|served| served.name == name)
    }
}

/// Refuses a manifest whose quotas, with the rings of all services, exceed what init has (`quota_pages`) beside
/// what it holds already (`reserved_pages`). Says the numbers.
pub fn check_memory(
    manifest: &Manifest,
    arguments: &str,
    quota_pages: u64,
    reserved_pages: u64,
) -> Result<(), String> {
    let audit_rings = manifest.services.iter().filter(|service| service.audits).count();
    let rings = (manifest.services.len() + audit_rings) as u64 * RING_BYTES.div_ceil(PAGE_SIZE) as u64;
    let promised = manifest.memory_pages(|service| may_ever_start(service, arguments)).saturating_add(rings);
    let available = quota_pages.saturating_sub(reserved_pages);
    if promised > available {
        return Err(format!(
            "the manifest promises {promised} pages of memory to services and rings, {available} are free"
        ));
    }
    Ok(())
}

/// Who may ask this endpoint for what.
pub fn access_entries(manifest: &Manifest, endpoint: &Endpoint) -> Vec<AccessEntry> {
    let services = manifest.services.iter().map(|service| (service.name.as_str(), &service.calls));
    let callers = services.chain([(INIT, &manifest.init.calls)]);
    callers
        .flat_map(|(caller, calls)| calls.iter().map(move |call| (caller, call)))
        .filter(|(_, call)| call.endpoint == endpoint.name)
        .map(|(caller, call)| AccessEntry { service_id: service_id(caller), operations: call.operations })
        .collect()
}

fn control_rights(service: &Service) -> Rights {
    let control = service.control;
    let parts =
        [(control.log, Rights::LOG), (control.inspect, Rights::INSPECT), (control.reset, Rights::RESET)];
    parts.into_iter().filter(|(wanted, _)| *wanted).map(|(_, right)| right).collect()
}

fn made(what: &str, outcome: Result<Handle, Error>) -> Result<Handle, ResourceError> {
    outcome.map_err(|error| ResourceError::Kernel { what: what.into(), error })
}

fn memory(service: &str, what: &str, bytes: usize) -> Result<Handle, ResourceError> {
    made(&format!("the {what} of {service}"), system::vmo_create(Handle::NONE, bytes))
}

/// A log ring that is read by these bits.
fn ring(service: &str, what: &str, readers: u32) -> Result<Handle, ResourceError> {
    let ring = memory(service, what, RING_BYTES)?;
    let what = || format!("the {what} of {service}");
    set_readers(ring, readers).map_err(|error| ResourceError::Kernel { what: what(), error })?;
    Ok(ring)
}

fn set_readers(ring: Handle, readers: u32) -> Result<(), Error> {
    system::vmo_write(ring, READERS_OFFSET, readers.as_bytes())
}

/// The bits of those who read log rings in this system.
fn readers(manifest: &Manifest) -> u32 {
    manifest.services.iter().filter_map(|service| service.reads_logs).map(bit).fold(0, |all, bit| all | bit)
}

const fn bit(reader: LogReader) -> u32 {
    match reader {
        LogReader::Console => Reader::Console.bit(),
        LogReader::Journal => Reader::Journal.bit(),
    }
}

fn endpoint(rank: u32, endpoint: &Endpoint) -> Result<Handle, ResourceError> {
    let (bytes, capabilities) = (endpoint.max_bytes as usize, endpoint.max_capabilities as usize);
    made(&format!("the endpoint {}", endpoint.name), system::endpoint_create(rank, bytes, capabilities))
}

/// Memory with the table of callers, ended by an entry of zeroes.
fn access_memory(manifest: &Manifest, endpoint: &Endpoint) -> Result<Handle, ResourceError> {
    let entries = access_entries(manifest, endpoint);
    let bytes = entries.as_slice().as_bytes();
    let vmo = memory(&endpoint.name, "access table", bytes.len() + size_of::<AccessEntry>())?;
    let what = || format!("the access table of {}", endpoint.name);
    system::vmo_write(vmo, 0, bytes).map_err(|error| ResourceError::Kernel { what: what(), error })?;
    Ok(vmo)
}

/// The board of an endpoint that has one.
fn board(endpoint: &Endpoint) -> Result<Option<Handle>, ResourceError> {
    let pages = endpoint.board_pages as usize;
    (pages > 0).then(|| memory(&endpoint.name, "board", pages * PAGE_SIZE)).transpose()
}

/// Memory with a file of the image: its length in bytes, then its contents. One that is missing is of no bytes: whose
/// it is says what it lacks.
fn file(image: &Image<'_>, name: &str) -> Result<Handle, ResourceError> {
    let contents = image.file(name).unwrap_or(&[]);
    let vmo = memory(name, "file", FILE_LENGTH_BYTES + contents.len())?;
    let what = || format!("the memory of the file {name}");
    let refused = |error| ResourceError::Kernel { what: what(), error };
    system::vmo_write(vmo, 0, &(contents.len() as u64).to_le_bytes()).map_err(refused)?;
    for (number, piece) in contents.chunks(TRANSFER_BYTES_MAX).enumerate() {
        let at = (FILE_LENGTH_BYTES + number * TRANSFER_BYTES_MAX) as u64;
        system::vmo_write(vmo, at, piece).map_err(refused)?;
    }
    Ok(vmo)
}

/// The right to create processes of these ids. None of them may be that of somebody whom the manifest names.
fn narrowed(
    authority: Handle,
    manifest: &Manifest,
    service: &Service,
    ids: ServiceIds,
) -> Result<Handle, ResourceError> {
    let named = manifest.services.iter().map(|other| other.name.as_str()).chain(["nexus-init", "neuron"]);
    let mut named = named.map(service_id);
    let narrow = match named.any(|id| (ids.first..=ids.last).contains(&id)) {
        true => Err(Error::IdentityInUse),
        false => system::authority_narrow(authority, ids.first, ids.last),
    };
    made(&format!("the range of service ids of {}", service.name), narrow)
}

/// Finds a device and mints its window and its interrupt.
fn device(
    authority: Handle,
    slots: &mut Slots,
    tree: &[u8],
    need: &DeviceNeed,
    given: &mut Vec<Device>,
) -> Result<OwnedDevice, &'static str> {
    let fits = |device: &Device| need.virtio.is_none_or(|wanted| slots.device(device) == Some(wanted));
    let found = devices::find(tree, &need.compatible, given, fits).map_err(DeviceError::message)?;
    let window = system::device_cap_create(authority, found.base, found.bytes, need.dma_pages as usize)
        .map_err(Error::name)?;
    let line = found.line.map(|line| system::irq_cap_create(authority, line)).transpose();
    let irq = line.map_err(|error| {
        // The window alone is of no use; the refusal is what matters.
        let _ = system::cap_close(window);
        error.name()
    })?;
    given.push(found);
    Ok(OwnedDevice { name: need.name.clone(), window, irq, is_virtio: need.virtio.is_some() })
}

/// The bytes of memory that was handed to init, copied piece by piece.
pub fn read_memory(vmo: Handle) -> Result<Vec<u8>, Error> {
    let bytes = system::cap_query(vmo)?.bytes as usize;
    let mut contents = vec![0; bytes];
    let pieces = contents.chunks_mut(nexus_abi::limits::TRANSFER_BYTES_MAX);
    for (number, piece) in pieces.enumerate() {
        system::vmo_read(vmo, (number * nexus_abi::limits::TRANSFER_BYTES_MAX) as u64, piece)?;
    }
    Ok(contents)
}
