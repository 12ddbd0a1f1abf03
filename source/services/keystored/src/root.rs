//! The secret of the board, which QEMU hands over as an item of fw_cfg.

use core::fmt;
use fw_cfg::{FwCfg, FwCfgError};
use identity::{ROOT_ITEM_BYTES, RootSecret};
use mmio::Window;
use nexus_abi::Kind;
use nexus_abi::start_page::StartPageError;
use nexus_proto::keystore::NoIdentity;
use nexus_rt::{Environment, SetupError, error};
use zeroize::Zeroizing;

/// The window in which the secret stands.
const DEVICE: &str = "device.mmio.fwcfg";
/// The items that may be the secret; the first that is there has to be. By the second QEMU 7.2 hands it over, which takes
/// no named items for the board `virt`.
const ITEMS: [&str; 2] = ["opt/nexus/root", "bootsplash.jpg"];

/// Why a secret that is there cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unreadable {
    Device(FwCfgError),
    NoSecret,
}

impl From<FwCfgError> for Unreadable {
    fn from(error: FwCfgError) -> Self {
        Unreadable::Device(error)
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Device(error) => write!(formatter, "{error}"),
            Unreadable::NoSecret => formatter.write_str("the item of fw_cfg is no secret"),
        }
    }
}

/// The secret; `None`: the board has none. One that is there and cannot be read is no reason to go on as if there
/// was none: then there is no identity.
pub fn secret(environment: &Environment) -> Result<Result<Option<RootSecret>, NoIdentity>, SetupError> {
    let device = match environment.capability(DEVICE, Kind::DeviceMmio) {
        Ok(device) => device,
        Err(StartPageError::Missing) => return Ok(Ok(None)),
        Err(error) => return Err(SetupError::Capability(DEVICE.into(), error)),
    };
    let (registers, bytes) = environment.map_device(device)?;
    // SAFETY: the window was just mapped for good, and is this process's alone.
    let window = unsafe { Window::new(registers, bytes) };
    Ok(read(window).map_err(|reason| {
        error!("keystored: the secret of the board cannot be read: {reason}");
        NoIdentity::BadRoot
    }))
}

fn read(window: Window) -> Result<Option<RootSecret>, Unreadable> {
    let device = FwCfg::open(window)?;
    for name in ITEMS {
        if let Some(found) = device.find(name)? {
            let mut item = Zeroizing::new([0; ROOT_ITEM_BYTES]);
            device.read(found, &mut *item)?;
            return RootSecret::from_item(&item).map(Some).ok_or(Unreadable::NoSecret);
        }
    }
    Ok(None)
}
