//! All commands, with their bounds and what they weigh.

use std::collections::{BTreeSet, HashMap};

use longhaul_codec::CommandStatus;
use longhaul_filter_engine::VehicleIndex;

use super::entry::{Entry, Outcome, State, Told};
use super::line::Line;
use super::record::Record;
use super::rules::Bounds;
use super::users::{USER_BYTES, Users};
use super::{Effect, Key};
use crate::limits::{RESULT_KEPT_MS, RESULTS_PER_USER_MAX};

/// The commands of this node. It never holds more than its bounds allow; results that are kept make room for commands.
#[derive(Debug)]
pub struct Commands {
    pub(super) bounds: Bounds,
    /// The largest number that was given.
    pub(super) last_number: u64,
    pub(super) entries: HashMap<u64, Entry>,
    pub(super) lines: HashMap<VehicleIndex, Line>,
    pub(super) users: Users,
    /// Those that wait: when they expire, and their numbers.
    pub(super) expiring: BTreeSet<(u64, u64)>,
    /// Those that have a result: since when, and their numbers.
    pub(super) results: BTreeSet<(u64, u64)>,
    /// What those that wait weigh.
    pub(super) waiting_bytes: u64,
    /// What the results weigh.
    pub(super) result_bytes: u64,
}

/// What a command weighs at most beside its payload and texts, for the budget: of a vehicle and a user of its own, in
/// tables that double as they grow.
pub const WEIGHT_BYTES: usize = 3 * size_of::<(u64, Entry)>()
    + 3 * size_of::<(VehicleIndex, Line)>()
    + 4 * size_of::<u64>()
    + 3 * size_of::<(u64, u64)>()
    + USER_BYTES;

impl Commands {
    /// No commands.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            last_number: 0,
            entries: HashMap::new(),
            lines: HashMap::new(),
            users: Users::default(),
            expiring: BTreeSet::new(),
            results: BTreeSet::new(),
            waiting_bytes: 0,
            result_bytes: 0,
        }
    }

    /// Commands without a result. 0: no vehicle has to be looked up.
    pub fn waiting(&self) -> usize {
        self.expiring.len()
    }

    /// Results that are kept. 0: no user has to be looked up when nothing waits either.
    pub fn kept_results(&self) -> usize {
        self.results.len()
    }

    /// Bytes of the payloads and texts of all of them.
    pub fn bytes(&self) -> u64 {
        self.waiting_bytes + self.result_bytes
    }

    /// When [`Commands::expire`] has something to do, at the earliest.
    pub fn next_expiry(&self) -> Option<u64> {
        let command = self.expiring.first().map(|&(at_ms, _)| at_ms);
        let result = self.results.first().map(|&(at_ms, _)| forgotten_ms(at_ms));
        command.into_iter().chain(result).min()
    }

    /// Reports what has expired, and forgets results that were kept for long enough. To be called at
    /// [`Commands::next_expiry`]; the other calls see to it themselves.
    pub fn expire(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        while let Some(&(at_ms, number)) = self.results.first()
            && forgotten_ms(at_ms) <= now_ms
        {
            self.forget(number, out);
        }
        let mut vehicles = Vec::new();
        while let Some(&(at_ms, number)) = self.expiring.first()
            && at_ms <= now_ms
        {
            let expired = Outcome {
                status: CommandStatus::Expired,
                content_type: None,
                payload: Vec::new(),
                finished_ms: now_ms,
                told: Told::No,
            };
            vehicles.extend(self.finish(number, expired, out));
        }
        // Not before all are gone: the next one in a line may have expired as well.
        for vehicle in vehicles {
            self.pump(vehicle, now_ms, out);
        }
    }

    /// Puts an entry into all tables. Room has been made for it.
    pub(super) fn insert(&mut self, number: u64, fleet_name: &str, entry: Entry) {
        let user = self.users.enter(
            (entry.fleet, fleet_name),
            &entry.user,
            (entry.command_id, number),
        );
        match &entry.state {
            State::Waiting(_) => {
                user.newest = entry.sender.or(user.newest);
                self.waiting_bytes += entry.bytes();
                self.expiring.insert((entry.expires_ms, number));
                self.lines.entry(entry.vehicle).or_default().push(number);
            }
            State::Finished(outcome) => {
                self.result_bytes += entry.bytes();
                self.results.insert((outcome.finished_ms, number));
            }
        }
        self.entries.insert(number, entry);
    }

    /// A command waits no longer: there is a result, which is kept and told. Returns whose window has room now.
    pub(super) fn finish(
        &mut self,
        number: u64,
        outcome: Outcome,
        out: &mut Vec<Effect>,
    ) -> Option<VehicleIndex> {
        self.stop_waiting(number)?;
        let entry = self.entries.get_mut(&number)?;
        let vehicle = entry.vehicle;
        self.results.insert((outcome.finished_ms, number));
        entry.state = State::Finished(outcome);
        self.result_bytes += entry.bytes();
        self.keep(number, out);
        self.tell(number, out);
        self.file_result(number, out);
        self.make_room(0, 0, out);
        Some(vehicle)
    }

    /// Takes an entry that waits out of the tables of those.
    fn stop_waiting(&mut self, number: u64) -> Option<()> {
        let entry = self.entries.get_mut(&number)?;
        entry.order_mut()?;
        self.waiting_bytes -= entry.bytes();
        self.expiring.remove(&(entry.expires_ms, number));
        if let Some(line) = self.lines.get_mut(&entry.vehicle) {
            line.remove(number);
            if line.is_empty() {
                self.lines.remove(&entry.vehicle);
            }
        }
        Some(())
    }

    /// Counts a result among its user's. The oldest one makes room.
    pub(super) fn file_result(&mut self, number: u64, out: &mut Vec<Effect>) {
        let Some(entry) = self.entries.get(&number) else {
            return;
        };
        let Some(user) = self.users.get_mut(entry.fleet, &entry.user) else {
            return;
        };
        user.results.push_back(number);
        if user.results.len() > RESULTS_PER_USER_MAX
            && let Some(oldest) = user.results.pop_front()
        {
            self.forget(oldest, out);
        }
    }

    /// Forgets the oldest results until so much more has room, or none are left.
    pub(super) fn make_room(&mut self, commands: usize, bytes: u64, out: &mut Vec<Effect>) {
        while self.entries.len() + commands > self.bounds.commands_max
            || self.bytes() + bytes > self.bounds.bytes_max
        {
            let Some(&(_, oldest)) = self.results.first() else {
                return;
            };
            self.forget(oldest, out);
        }
    }

    /// As if it had never been.
    pub(super) fn forget(&mut self, number: u64, out: &mut Vec<Effect>) -> Option<Entry> {
        self.stop_waiting(number);
        let mut entry = self.entries.remove(&number)?;
        let bytes = entry.bytes();
        if let Some(outcome) = entry.outcome_mut() {
            self.results.remove(&(outcome.finished_ms, number));
            self.result_bytes -= bytes;
        }
        self.users
            .leave(entry.fleet, &entry.user, (entry.command_id, number));
        out.push(Effect::Forget { key: key(number) });
        Some(entry)
    }

    /// Writes an entry as it is now.
    pub(super) fn keep(&self, number: u64, out: &mut Vec<Effect>) {
        if let Some(entry) = self.entries.get(&number) {
            out.push(Effect::Keep {
                key: key(number),
                value: Record::write(self.users.fleet_name(entry.fleet), entry),
            });
        }
    }
}

/// When a result that came then is forgotten.
fn forgotten_ms(finished_ms: u64) -> u64 {
    finished_ms.saturating_add(RESULT_KEPT_MS)
}

pub(super) fn key(number: u64) -> Key {
    number.to_be_bytes()
}
