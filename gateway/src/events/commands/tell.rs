//! Results to users.

use longhaul_filter_engine::FleetId;

use super::entry::Told;
use super::{Commands, Effect};
use crate::fleet::Holder;

impl Commands {
    /// A user has a new connection: results that found nobody go there.
    pub fn user_here(
        &mut self,
        fleet: FleetId,
        user: &str,
        at: Holder,
        now_ms: u64,
        out: &mut Vec<Effect>,
    ) {
        self.expire(now_ms, out);
        let Some(found) = self.users.get_mut(fleet, user) else {
            return;
        };
        found.newest = Some(at);
        for number in found.results.clone() {
            let outcome = self.entries.get_mut(&number).and_then(|e| e.outcome_mut());
            if outcome.is_some_and(|outcome| outcome.told == Told::No) {
                self.tell(number, out);
            }
        }
    }

    /// A result was handed to its user's connection. After a restart, it is not told again.
    pub fn told(&mut self, number: u64, out: &mut Vec<Effect>) {
        let outcome = self.entries.get_mut(&number).and_then(|e| e.outcome_mut());
        if let Some(outcome) = outcome
            && !outcome.is_told()
        {
            outcome.told = Told::Yes;
            self.keep(number, out);
        }
    }

    /// A result could not be handed to this connection, because that is gone. It goes to a newer one of the same user, or
    /// waits for the next.
    pub fn not_told(&mut self, number: u64, at: Holder, out: &mut Vec<Effect>) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        if entry.sender == Some(at) {
            entry.sender = None;
        }
        if let Some(user) = self.users.get_mut(entry.fleet, &entry.user)
            && user.newest == Some(at)
        {
            user.newest = None;
        }
        let outcome = entry.outcome_mut();
        if outcome.is_some_and(|outcome| outcome.told == Told::Under(at)) {
            self.tell(number, out);
        }
    }

    /// Tells a result, if there is one, to the connection that sent the command, or else to its user's newest.
    pub(super) fn tell(&mut self, number: u64, out: &mut Vec<Effect>) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        let user = self.users.get_mut(entry.fleet, &entry.user);
        let newest = user.and_then(|user| user.newest);
        let (at, result) = (entry.sender.or(newest), entry.result());
        let (Some(outcome), Some(result)) = (entry.outcome_mut(), result) else {
            return;
        };
        let Some(at) = at else {
            outcome.told = Told::No;
            return;
        };
        // Sent again to one who has it, it stays told, whatever comes of it.
        if !outcome.is_told() {
            outcome.told = Told::Under(at);
        }
        out.push(Effect::Tell {
            number,
            fleet: entry.fleet,
            user: entry.user.clone(),
            at,
            result,
        });
    }
}
