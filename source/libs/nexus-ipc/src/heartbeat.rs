//! A server's sign of life: posts to its supervisor while it works, and none while it rests.
//!
//! A server that works says so once a [`BEAT`]. One that had nothing to do for a beat says that it rests, and from
//! then on nothing, until something comes: then it says that it lives *before* it looks at it. So a server that
//! waits costs nothing, and one that hangs in its work is missed.

use crate::{Clock, Deadline};
use core::time::Duration;
use nexus_abi::limits::FOREVER;
use nexus_abi::message::Header;
use nexus_abi::{Handle, system};

/// The label of the post of a server that works, and will say so again.
pub const ALIVE_LABEL: u16 = 2;
/// The label of the post of a server that waits, and will say so when that is over.
pub const RESTING_LABEL: u16 = 3;
/// Time from one sign of a server that works to the next.
pub const BEAT: Duration = Duration::from_secs(1);

/// What a server says of itself, and when next.
#[derive(Debug)]
pub struct Heartbeat {
    supervisor: Handle,
    period: u64,
    /// When the next sign is due, in ticks; for ever while it rests.
    due: u64,
    /// Whether anything came since the last sign.
    has_worked: bool,
}

impl Heartbeat {
    /// Of a server that has said nothing yet, whose first sign is due at once.
    pub fn new(supervisor: Handle, clock: &Clock) -> Self {
        Heartbeat { supervisor, period: clock.ticks(BEAT), due: 0, has_worked: false }
    }

    /// Until when it may wait for something that is wanted by `deadline`.
    pub(crate) fn limit(&self, deadline: Deadline) -> Deadline {
        deadline.min(Deadline::at(self.due))
    }

    /// Something came, or is due: it is about to be looked at.
    pub(crate) fn stir(&mut self) {
        self.has_worked = true;
        let now = system::ticks();
        if self.due == FOREVER || now >= self.due {
            self.say(ALIVE_LABEL, now);
        }
    }

    /// Nothing came until the next sign was due.
    pub(crate) fn quiet(&mut self) {
        let now = system::ticks();
        match core::mem::take(&mut self.has_worked) {
            true => self.say(ALIVE_LABEL, now),
            false => self.say(RESTING_LABEL, now),
        }
    }

    /// A sign that cannot be posted, because the last ones were not heard yet, is due again in a beat.
    fn say(&mut self, label: u16, now: u64) {
        let said = system::post(self.supervisor, Header::new(label, 0, 0), [0; 8]);
        let rests = label == RESTING_LABEL && said.is_ok();
        self.due = if rests { FOREVER } else { now.saturating_add(self.period) };
    }
}
