//! Calls that carry a capability there and back, by the kernel's own calls.

use crate::PATIENCE;
use crate::storm::counts::{Counts, TELL};
use alloc::format;
use alloc::string::String;
use nexus_abi::limits::{FOREVER, PAGE_SIZE, REGISTER_BYTES};
use nexus_abi::message::{Buffers, CapabilityTransfer, Header, Registers};
use nexus_abi::{Error, Handle, Kind, Rights, system};
use nexus_rt::{Environment, error, info};

/// A message without bytes that carries one capability.
const ONE_CAPABILITY: Header = Header::new(1, 0, 1);

/// Who hands every capability back, and adds up what others count.
pub fn peer(environment: &Environment) -> u64 {
    let Ok(endpoint) = environment.capability("serve/soak", Kind::Endpoint) else {
        error!("soak: FAIL the peer has no endpoint");
        return 1;
    };
    let mut sums = Counts::default();
    info!("soak-peer: ready");
    environment.ready();
    let mut registers = Registers::default();
    let mut buffers = Buffers::default();
    // SAFETY: the buffers name no memory but themselves, here and below.
    let mut outcome = unsafe { system::recv(endpoint, &mut registers, Some(&mut buffers), FOREVER) };
    loop {
        match outcome {
            Ok(_) => {}
            // Whoever asked was killed meanwhile: nothing was received.
            Err(Error::PeerGone) => {
                // SAFETY: as above.
                outcome = unsafe { system::recv(endpoint, &mut registers, Some(&mut buffers), FOREVER) };
                continue;
            }
            Err(error) => {
                error!("soak: FAIL the peer: {error}");
                return 1;
            }
        }
        if registers.header.label() == TELL {
            sums.add(&registers.words);
            registers.words = sums.0;
            registers.header = Header::new(0, REGISTER_BYTES as u32, 0);
        } else {
            let came = buffers.received_capabilities[0];
            buffers.send_capabilities[0] = CapabilityTransfer::moved(came, Rights::READ);
            registers.header = ONE_CAPABILITY;
        }
        // SAFETY: as above.
        outcome = unsafe { system::reply_recv(endpoint, &mut registers, Some(&mut buffers), FOREVER) };
    }
}

/// Who sends one capability again and again.
pub struct Calls<'a> {
    environment: &'a Environment,
    endpoint: Handle,
    memory: Handle,
}

impl<'a> Calls<'a> {
    /// With a capability of its own to send.
    pub fn new(environment: &'a Environment) -> Result<Self, String> {
        let endpoint = environment.to_call("soak").map_err(|error| format!("{error}"))?;
        let memory =
            system::vmo_create(Handle::NONE, PAGE_SIZE).map_err(|error| format!("memory: {error}"))?;
        Ok(Calls { environment, endpoint, memory })
    }

    /// Makes so many calls.
    pub fn rounds(&mut self, count: u64) -> Result<(), String> {
        for round in 0..count {
            self.call(round.is_multiple_of(2)).map_err(|error| format!("call {round}: {error}"))?;
        }
        Ok(())
    }

    /// Moves the capability away and gets it back; or sends a copy, and closes what comes back.
    fn call(&mut self, moves: bool) -> nexus_abi::Result<()> {
        let mut registers = Registers { header: ONE_CAPABILITY, ..Registers::default() };
        let mut buffers = Buffers::default();
        buffers.send_capabilities[0] = match moves {
            true => CapabilityTransfer::moved(self.memory, Rights::READ),
            false => CapabilityTransfer::copy(self.memory, Rights::READ),
        };
        let deadline = self.environment.deadline(PATIENCE).ticks();
        // SAFETY: the buffers name no memory but themselves.
        unsafe { system::call(self.endpoint, &mut registers, Some(&mut buffers), deadline)? };
        let back = buffers.received_capabilities[0];
        if moves {
            self.memory = back;
            return Ok(());
        }
        system::cap_close(back)
    }
}
