//! What a dashboard is owed that comes and goes: what is sent while it watches, and nothing of before or after.

use crate::schedule::Plan;

/// When a dashboard watches, in sends of the whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watching {
    /// The sends before it began.
    pub since: u64,
    /// The sends before it ended.
    pub until: u64,
}

impl Watching {
    /// All of the run.
    pub const ALWAYS: Self = Self {
        since: 0,
        until: u64::MAX,
    };

    /// The sequence numbers of `vehicle` that are owed: above the first and up to the second.
    #[inline]
    pub fn owed(&self, plan: &impl Plan, vehicle: u32) -> (u32, u32) {
        if *self == Self::ALWAYS {
            return (0, u32::MAX);
        }
        let sent = |sends| match sends {
            u64::MAX => u32::MAX,
            0 => 0,
            _ => plan.sent_by(vehicle, sends),
        };
        (sent(self.since), sent(self.until))
    }
}
