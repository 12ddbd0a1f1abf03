//! The disk: its partitions, each opened by itself.
//!
//! It owns the virtio block device, reads the partition table, and serves each partition to one client at a time
//! ([`doors`]). What clients ask for is cut into requests of the device, several of which are on their way at a time
//! ([`transfers`]). What the table says is decided in `partitions`, the device is in `virtio-blk`; here the two meet
//! the system calls. The contract with clients is `docs/block-device.md`.
//!
//! Where to start reading: [`serve`].
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod disk;
mod doors;
mod failure;
mod transfers;

use core::convert::Infallible;
use disk::Disk;
use driver_kit::DeviceMemory;
use failure::Failure;
use nexus_abi::{Kind, system};
use nexus_ipc::Event;
use nexus_proto::block::{MAX_BYTES, REFERENCE, dispatch};
use nexus_rt::{Environment, error, info, warning};
use partitions::{Partition, ReadError, TableError};
use virtio_blk::{BlockDevice, DEVICE, DMA_PAGES};

/// The bit that the device sets.
const DEVICE_BIT: u64 = 1;

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    let Err(reason) = serve(environment);
    error!("virtioblkd: {reason}");
    1
}

fn serve(environment: &Environment) -> Result<Infallible, Failure> {
    let mut receiver = environment.to_serve(REFERENCE.endpoint, MAX_BYTES)?;
    let endpoint = environment.needed("serve/block", Kind::Endpoint)?;
    let (transport, line) = driver_kit::open(environment, "blk", DEVICE, DMA_PAGES)?;
    info!("virtioblkd: mmio window mapped ok");
    let device = BlockDevice::<DeviceMemory>::open(transport)?;
    let events = system::notification_create()?;
    line.bind(events, DEVICE_BIT)?;
    let mut disk = Disk::new(environment, device, line, events, endpoint);
    tell_properties(&disk);
    read_table(&mut disk)?;
    system::notification_bind(events)?;
    environment.ready();
    loop {
        let due = disk.patience_ends();
        match receiver.next(due)? {
            Event::Bits(bits) if bits & DEVICE_BIT != 0 => disk.hear()?,
            Event::Call(call) => dispatch(&mut disk, call),
            Event::BadgeGone(badge) => disk.client_gone(badge),
            Event::TimedOut => return Err(Failure::Stuck),
            _ => {}
        }
        disk.go_on()?;
    }
}

fn tell_properties(disk: &Disk) {
    let properties = disk.properties();
    let kilobytes = properties.blocks / 2;
    info!("virtioblkd: {kilobytes} KB, physical blocks of {} bytes", properties.physical_bytes);
    if properties.is_read_only {
        warning!("virtioblkd: the disk cannot be written");
    } else if !properties.has_cache {
        warning!("virtioblkd: the disk takes no flushes: every write is taken for durable");
    }
}

/// Reads the partition table. A disk without one is served without partitions: whoever opens one is told.
fn read_table(disk: &mut Disk) -> Result<(), Failure> {
    let blocks = disk.properties().blocks;
    let read = |first, to: &mut [u8]| match disk.read_now(first, to) {
        Err(Failure::Refused) => Err(ReadError::Unreadable),
        outcome => outcome.map_err(ReadError::Failed),
    };
    match partitions::read(blocks, read) {
        Ok(table) => {
            info!("blk: virtio-blk up");
            if table.from_second_copy {
                warning!(
                    "virtioblkd: the first copy of the partition table is damaged; the second one is used"
                );
            }
            table.refused.iter().for_each(|refused| warning!("virtioblkd: {refused}; it is not served"));
            disk.set_partitions(&table.found);
            for partition in [Partition::BootA, Partition::BootB, Partition::Bootctl, Partition::State] {
                let is_named = table.refused.iter().any(|refused| refused.partition == partition);
                if !is_named && !table.found.iter().any(|(found, _)| *found == partition) {
                    warning!("virtioblkd: the disk has no partition `{}`", partition.name());
                }
            }
            Ok(())
        }
        Err(TableError::Failed(failure)) => Err(failure),
        Err(reason) => {
            error!("virtioblkd: nothing of the disk is served: {reason}");
            Ok(())
        }
    }
}
