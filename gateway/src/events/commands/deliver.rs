//! Commands to vehicles, and their results.

use std::sync::Arc;

use longhaul_codec::CommandResult;
use longhaul_filter_engine::VehicleIndex;

use super::entry::{Outcome, State, Told};
use super::{Commands, Effect, Refusal};
use crate::fleet::Holder;

impl Commands {
    /// A vehicle has connected. What it has not answered goes to this connection, from the beginning. Calling this twice
    /// for one connection does nothing more.
    pub fn vehicle_here(
        &mut self,
        vehicle: VehicleIndex,
        at: Holder,
        now_ms: u64,
        out: &mut Vec<Effect>,
    ) {
        self.expire(now_ms, out);
        if let Some(line) = self.lines.get_mut(&vehicle) {
            line.move_to(at);
            self.pump(vehicle, now_ms, out);
        }
    }

    /// A command could not be handed to a vehicle's connection, because that is gone. It waits for the next one, and so
    /// do the others.
    pub fn not_delivered(&mut self, vehicle: VehicleIndex, at: Holder, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number)
            && let Some(order) = entry.order_mut()
        {
            order.deliveries = order.deliveries.saturating_sub(1);
        }
        if let Some(line) = self.lines.get_mut(&vehicle) {
            line.lose(at);
        }
    }

    /// A vehicle has answered. `Ok(false)`: there is no such command of this vehicle, or none any more, and the answer is
    /// ignored.
    ///
    /// # Errors
    /// The answer is not as it must be. The command still waits for one.
    pub fn result(
        &mut self,
        vehicle: VehicleIndex,
        result: CommandResult,
        now_ms: u64,
        out: &mut Vec<Effect>,
    ) -> Result<bool, Refusal> {
        self.expire(now_ms, out);
        let number = result.command_id;
        // Nobody can answer what was not asked: a number that a vehicle made up is no answer.
        let is_asked = self.entries.get(&number).is_some_and(|entry| {
            entry.vehicle == vehicle
                && matches!(&entry.state, State::Waiting(order) if order.deliveries > 0)
        });
        if !is_asked {
            return Ok(false);
        }
        self.bounds.check_result(&result)?;
        let outcome = Outcome {
            status: result.status,
            content_type: result.content_type,
            payload: result.payload,
            finished_ms: now_ms,
            told: Told::No,
        };
        if let Some(vehicle) = self.finish(number, outcome, out) {
            self.pump(vehicle, now_ms, out);
        }
        Ok(true)
    }

    /// Sends a vehicle as much as it may have at one time.
    pub(super) fn pump(&mut self, vehicle: VehicleIndex, now_ms: u64, out: &mut Vec<Effect>) {
        let Some(line) = self.lines.get_mut(&vehicle) else {
            return;
        };
        while let Some((number, to)) = line.next() {
            let Some(entry) = self.entries.get_mut(&number) else {
                continue;
            };
            let Some(command) = entry.command(number, now_ms) else {
                continue;
            };
            out.push(Effect::Deliver {
                vehicle,
                to,
                expires_ms: entry.expires_ms,
                command: Arc::new(command),
            });
            if let Some(order) = entry.order_mut() {
                order.deliveries = order.deliveries.saturating_add(1);
            }
        }
    }
}
