//! What can be allowed. One list: the policy files, the messages and every service take their words from here.

use core::fmt;
use serde::{Deserialize, Serialize};

macro_rules! actions {
    ($($(#[doc = $meaning:literal])+ $name:ident = $number:literal, $word:literal, $weight:ident;)+) => {
        /// Something that a service may or may not do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "u16", into = "u16")]
        #[repr(u16)]
        pub enum Action {
            $($(#[doc = $meaning])+ $name = $number,)+
        }

        impl Action {
            /// Every action, by number.
            pub const ALL: &'static [Action] = &[$(Action::$name),+];

            /// Its word in the policy files.
            pub const fn name(self) -> &'static str {
                match self { $(Action::$name => $word,)+ }
            }

            /// What it is to do it.
            pub const fn meaning(self) -> &'static str {
                match self { $(Action::$name => concat!($($meaning),+),)+ }
            }

            /// Whether each time that it is allowed is recorded. What is denied is recorded always.
            pub const fn is_sensitive(self) -> bool {
                match self { $(Action::$name => actions!(@ $weight),)+ }
            }
        }
    };
    (@ sensitive) => { true };
    (@ ordinary) => { false };
}

actions! {
    /// Talks to the system's own services.
    IpcCore = 1, "ipc.core", ordinary;
    /// Has a program started; the resource is the service that it is of.
    ProcSpawn = 2, "proc.spawn", sensitive;
    /// Has a process ended; the resource is the service that it is of.
    ProcKill = 3, "proc.kill", sensitive;
    /// Is handed the terminal's registers and interrupt.
    DeviceUart = 4, "device.mmio.uart", sensitive;
    /// Is handed the entropy device.
    DeviceRng = 5, "device.mmio.rng", sensitive;
    /// Is handed a block device.
    DeviceBlk = 6, "device.mmio.blk", sensitive;
    /// Is handed a network device.
    DeviceNet = 7, "device.mmio.net", sensitive;
    /// Is handed the clock of the calendar.
    DeviceRtc = 8, "device.mmio.rtc", sensitive;
    /// Is handed a virtio slot in which no device stands.
    DeviceSlot = 9, "device.mmio.slot", sensitive;
    /// Draws random bytes.
    RngEntropy = 10, "rng.entropy", ordinary;
    /// Has something signed with the device's key.
    CryptoSign = 11, "crypto.sign", sensitive;
    /// Has a signature verified.
    CryptoVerify = 12, "crypto.verify", ordinary;
    /// Reads state; the resource is the path.
    StatefsRead = 13, "statefs.read", ordinary;
    /// Writes state; the resource is the path.
    StatefsWrite = 14, "statefs.write", ordinary;
    /// Reads and writes the state of the keys.
    StatefsKeystore = 15, "statefs.keystore", sensitive;
    /// Reads and writes the state that decides about boots.
    StatefsBoot = 16, "statefs.boot", sensitive;
    /// Asks the policy on behalf of another.
    PolicyDelegate = 17, "policy.delegate", ordinary;
    /// Pushes a signed overlay.
    PolicyAdmin = 18, "policy.admin", sensitive;
    /// Learns the device's public key.
    DevicePubkeyRead = 19, "device.pubkey.read", ordinary;
    /// Has the device's key read again from where it is stored.
    DeviceKeyReload = 20, "device.key.reload", sensitive;
    /// Has a new key made in the place of one that is lost, damaged or of another machine.
    DeviceKeygen = 21, "device.keygen", sensitive;
    /// Is given the device's private key. It is refused whatever the policy says; the question has it recorded.
    DeviceKeyExport = 22, "device.key.export", sensitive;
    /// Is handed what the machine's maker configured, the board's secret among it.
    DeviceFwcfg = 23, "device.mmio.fwcfg", sensitive;
}

impl Action {
    /// The action with this number.
    pub fn from_number(number: u16) -> Option<Action> {
        // They are numbered from 1 on, which a test makes sure of.
        let place = usize::from(number).checked_sub(1)?;
        Self::ALL.get(place).copied().filter(|action| action.number() == number)
    }

    /// The action with this word.
    pub fn from_name(name: &str) -> Option<Action> {
        Self::ALL.iter().copied().find(|action| action.name() == name)
    }

    /// Its number in messages and in the table.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Whether it is about the policy itself: no overlay may touch that.
    pub const fn is_of_the_policy(self) -> bool {
        matches!(self, Action::PolicyDelegate | Action::PolicyAdmin)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl From<Action> for u16 {
    fn from(action: Action) -> u16 {
        action.number()
    }
}

impl TryFrom<u16> for Action {
    type Error = &'static str;

    fn try_from(number: u16) -> Result<Self, Self::Error> {
        Action::from_number(number).ok_or("no action has this number")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_found_by_its_word_and_its_number() {
        for (place, &action) in Action::ALL.iter().enumerate() {
            assert_eq!(usize::from(action.number()), place + 1);
            assert_eq!(Action::from_number(action.number()), Some(action));
            assert_eq!(Action::from_name(action.name()), Some(action));
        }
    }

    #[test]
    fn test_reject_numbers_and_words_of_no_action() {
        assert_eq!(Action::from_number(0), None);
        assert_eq!(Action::from_number(Action::ALL.len() as u16 + 1), None);
        assert_eq!(Action::from_name("ipc"), None);
    }
}
