//! The first process, as a program: takes what the kernel gave it, and hands it to the supervisor.

use crate::program::Program;
use crate::resources::{ResourceError, Resources, read_memory};
use crate::supervisor::{Parts, Supervisor, may_ever_start};
use crate::virtio::{Slots, VIEW_BYTES};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use nexus_abi::image::{self, Image};
use nexus_abi::system::{self, Reset};
use nexus_abi::{Handle, Kind, Rights};
use nexus_rt::{Environment, error, info};
use system_manifest::Manifest;

/// Time for the last line to be seen before the machine is powered off.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The program; its value is the exit code, when nothing else can be done.
pub fn run(environment: &Environment) -> u64 {
    info!("init: start");
    let Err(reason) = start(environment);
    error!("init: cannot go on: {reason}; powering off");
    environment.sleep(LAST_WORDS);
    if let Ok(control) = environment.capability("system", Kind::SystemControl) {
        let refusal = system::system_reset(control, Reset::PowerOff);
        error!("init: the machine cannot be powered off: {refusal}");
    }
    1
}

/// Starts everything and supervises it; comes back only with the reason why that cannot go on.
fn start(environment: &Environment) -> Result<core::convert::Infallible, String> {
    let capability = |name: &str, kind| {
        environment.capability(name, kind).map_err(|error| format!("the capability `{name}`: {error:?}"))
    };
    let control = capability("system", Kind::SystemControl)?;
    let authority = capability("process-authority", Kind::ProcessAuthority)?;
    let urgency = capability("qos-authority", Kind::QosAuthority)?;
    let device_authority = capability("device-authority", Kind::DeviceAuthority)?;
    let image = map_image(environment, capability("initial-image", Kind::Vmo)?)?;
    let manifest =
        image.file(image::MANIFEST).map_err(|error| format!("the manifest: {}", error.message()))?;
    let manifest = system_manifest::decode(manifest).map_err(|error| format!("the manifest: {error}"))?;
    check_memory(&manifest, environment, control)?;
    let programs = programs(&manifest, &image);
    let tree = capability("device-tree", Kind::Vmo)?;
    let tree = read_memory(tree).map_err(|error| format!("the device tree: {error}"))?;
    let view =
        environment.addresses(VIEW_BYTES).map_err(|error| format!("addresses for registers: {error}"))?;
    let slots = Slots::new(device_authority, view);
    let resources = Resources::create(
        &manifest,
        control,
        (authority, urgency),
        device_authority,
        slots,
        &tree,
        &image,
        |service, need, reason| {
            if !may_ever_start(service, environment.page().arguments()) {
                return;
            }
            let what = match need.virtio {
                Some(number) => format!("{}, device {number}", need.compatible),
                None => need.compatible.clone(),
            };
            let (owner, name) = (&service.name, &need.name);
            match need.dispensable {
                true => info!("init: {owner} does without its device `{name}` ({what}): {reason}"),
                false => error!("init: {owner} lacks its device `{name}` ({what}): {reason}"),
            }
        },
    );
    drop(tree);
    let resources = resources.map_err(|ResourceError::Kernel { what, error }| format!("{what}: {error}"))?;
    let deaths =
        system::notification_create().map_err(|error| format!("the notification of deaths: {error}"))?;
    let parts = Parts {
        manifest: &manifest,
        programs: &programs,
        resources,
        authority,
        deaths,
        clock: environment.clock(),
        ticks_per_second: environment.page().ticks_per_second,
        arguments: environment.page().arguments(),
    };
    let mut supervisor = Supervisor::new(parts, environment)
        .map_err(|error| format!("the thread that asks the policy: {error}"))?;
    Err(format!("waiting for events: {}", supervisor.run(environment)))
}

fn map_image(environment: &Environment, vmo: Handle) -> Result<Image<'static>, String> {
    let bytes = system::cap_query(vmo).map_err(|error| format!("the initial image: {error}"))?.bytes as usize;
    let base = environment
        .map_memory(vmo, bytes, Rights::READ)
        .map_err(|error| format!("the initial image cannot be mapped: {error}"))?;
    // SAFETY: just mapped for good with this size, and nobody has the right to write it.
    let contents = unsafe { core::slice::from_raw_parts(base, bytes) };
    Image::open(contents).map_err(|error| format!("the initial image: {}", error.message()))
}

/// Every service's program, checked before anything is started. A damaged one is its service's failure alone.
fn programs<'a>(manifest: &Manifest, image: &Image<'a>) -> Vec<Result<Program<'a>, &'static str>> {
    let program = |name: &str| {
        let file = image.file(name).map_err(|error| error.message())?;
        Program::read(file).map_err(|error| error.message())
    };
    manifest.services.iter().map(|service| program(&service.binary)).collect()
}

/// Refuses a manifest that promises more memory than there is beside what init itself has.
fn check_memory(manifest: &Manifest, environment: &Environment, control: Handle) -> Result<(), String> {
    let own = system::process_list(control, 0).map_err(|error| format!("init's own figures: {error}"))?;
    if own.service_id != environment.page().service_id {
        return Err(String::from("the first process is not init"));
    }
    let arguments = environment.page().arguments();
    crate::resources::check_memory(manifest, arguments, own.quota_pages, own.reserved_pages)
}
