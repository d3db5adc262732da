//! Commands as a list that is looked through from the beginning each time.

use longhaul_codec::CommandStatus;

use crate::limits::RESULT_KEPT_MS;

/// What a submit must lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    New,
    Again { finished: bool },
    OtherCommand,
    Full,
}

/// How far a command is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDisk {
    No,
    Waiting,
    Finished,
}

#[derive(Debug, Clone)]
pub struct Case {
    pub number: u64,
    pub user: usize,
    pub command_id: u64,
    pub vehicle: u32,
    pub what: u8,
    pub expires_ms: u64,
    pub finished: Option<(CommandStatus, u64)>,
    pub on_disk: OnDisk,
    /// The sender has its Ack.
    pub acknowledged: bool,
    /// How often a connection got the result, and how often it may.
    pub told: (u32, u32),
}

#[derive(Debug, Default)]
pub struct Model {
    pub cases: Vec<Case>,
    pub per_vehicle_max: usize,
    pub commands_max: usize,
}

impl Model {
    pub fn by_number(&mut self, number: u64) -> Option<&mut Case> {
        self.cases.iter_mut().find(|case| case.number == number)
    }

    pub fn by_sender(&mut self, user: usize, command_id: u64) -> Option<&mut Case> {
        self.cases
            .iter_mut()
            .find(|case| (case.user, case.command_id) == (user, command_id))
    }

    /// What waits for a vehicle, in order.
    pub fn line(&self, vehicle: u32) -> Vec<u64> {
        let waiting = self.cases.iter().filter(|case| case.finished.is_none());
        let mut line: Vec<u64> = waiting
            .filter(|case| case.vehicle == vehicle)
            .map(|case| case.number)
            .collect();
        line.sort_unstable();
        line
    }

    pub fn waiting(&self) -> usize {
        self.cases.iter().filter(|c| c.finished.is_none()).count()
    }

    pub fn expire(&mut self, now_ms: u64) {
        self.cases.retain(
            |case| !matches!(case.finished, Some((_, at_ms)) if at_ms + RESULT_KEPT_MS <= now_ms),
        );
        for case in &mut self.cases {
            if case.finished.is_none() && case.expires_ms <= now_ms {
                case.finished = Some((CommandStatus::Expired, now_ms));
            }
        }
    }

    pub fn submit(&mut self, user: usize, command_id: u64, (vehicle, what): (u32, u8)) -> Answer {
        let (in_line, waiting) = (self.line(vehicle).len(), self.waiting());
        let (line_max, commands_max) = (self.per_vehicle_max, self.commands_max);
        match self.by_sender(user, command_id) {
            Some(case) if (case.vehicle, case.what) != (vehicle, what) => Answer::OtherCommand,
            Some(case) => {
                let finished = case.finished.is_some();
                case.told.1 += u32::from(finished);
                Answer::Again { finished }
            }
            None if in_line >= line_max || waiting >= commands_max => Answer::Full,
            None => Answer::New,
        }
    }

    /// What was not on disk is not there any more; what was told may be told again.
    pub fn restart(&mut self) {
        self.cases.retain_mut(|case| {
            assert!(
                case.on_disk != OnDisk::No || !case.acknowledged,
                "an Ack came before it was durable: {case:?}"
            );
            if case.on_disk == OnDisk::Waiting {
                assert_eq!(case.told.0, 0, "a result was told that is lost: {case:?}");
                case.finished = None;
            }
            case.told.1 += 1;
            case.on_disk != OnDisk::No
        });
    }
}
