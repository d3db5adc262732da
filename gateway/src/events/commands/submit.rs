//! Commands from dashboards, and what if they cannot be made durable.

use super::entry::{Entry, Order, State, fingerprint};
use super::{Asker, Commands, Effect, NewCommand, Refusal};
use crate::fleet::Holder;

impl Commands {
    /// A dashboard has sent a command. `connected`: where the vehicle is. It must be read when this is called and not
    /// before: an older answer than that of the last [`Commands::vehicle_here`] would send commands to a connection that
    /// is gone.
    pub fn submit(
        &mut self,
        asker: Asker,
        fleet_name: &str,
        command: NewCommand,
        connected: Option<Holder>,
        now_ms: u64,
        out: &mut Vec<Effect>,
    ) {
        self.expire(now_ms, out);
        let command_id = command.command_id;
        let before = self.users.number(asker.fleet, &asker.user, command_id);
        if let Some(number) = before {
            return self.again(number, asker, &command, out);
        }
        let entry = match self.admit(&asker, command, now_ms) {
            Ok(entry) => entry,
            Err(why) => {
                return out.push(Effect::Refused {
                    to: asker,
                    command_id,
                    why,
                });
            }
        };
        self.make_room(1, entry.bytes(), out);
        let (number, vehicle) = (self.next_number(now_ms), entry.vehicle);
        self.insert(number, fleet_name, entry);
        self.keep(number, out);
        out.push(Effect::Taken {
            to: asker,
            command_id,
        });
        // Where the vehicle is not said to be anywhere, it stays where it was: if it is gone, that will be found.
        if let (Some(at), Some(line)) = (connected, self.lines.get_mut(&vehicle)) {
            line.move_to(at);
        }
        self.pump(vehicle, now_ms, out);
    }

    /// The entry of a new command, if it is good and there is room for it.
    fn admit(&self, asker: &Asker, command: NewCommand, now_ms: u64) -> Result<Entry, Refusal> {
        let bounds = &self.bounds;
        bounds.check(&command)?;
        let entry = new_entry(asker, command, now_ms);
        let in_line = self.lines.get(&entry.vehicle).map_or(0, |line| line.len());
        if in_line >= bounds.per_vehicle_max {
            return Err(Refusal::VehicleFull(bounds.per_vehicle_max));
        }
        // Results are no obstacle: they make room.
        if self.waiting() >= bounds.commands_max {
            return Err(Refusal::NodeFull(bounds.commands_max));
        }
        if self.waiting_bytes + entry.bytes() > bounds.bytes_max {
            return Err(Refusal::BytesFull(bounds.bytes_max));
        }
        Ok(entry)
    }

    /// The same number from the same user: it says what it did the first time.
    fn again(&mut self, number: u64, asker: Asker, command: &NewCommand, out: &mut Vec<Effect>) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        let command_id = command.command_id;
        if entry.vehicle != command.vehicle || entry.fingerprint != mark(command) {
            return out.push(Effect::Refused {
                to: asker,
                command_id,
                why: Refusal::OtherCommand(command_id),
            });
        }
        entry.sender = Some(asker.at);
        if let Some(user) = self.users.get_mut(asker.fleet, &asker.user) {
            user.newest = Some(asker.at);
        }
        out.push(Effect::Taken {
            to: asker,
            command_id,
        });
        self.tell(number, out);
    }

    /// It grows over restarts, too: every number that is kept is smaller, and so is every one that was forgotten, as long
    /// as the clock goes on and fewer than a million commands a second come.
    fn next_number(&mut self, now_ms: u64) -> u64 {
        let now_us = now_ms.saturating_mul(1_000);
        self.last_number = now_us.max(self.last_number.saturating_add(1));
        self.last_number
    }

    /// These effects, of which no `Keep` and no `Forget` became durable, were not carried out, nor were any that came
    /// after them. Commands that are new among them are taken back, and their senders told so; a new command that was
    /// written all the same is forgotten. What else was to be done comes again, for another try.
    pub fn not_durable(&mut self, effects: Vec<Effect>, now_ms: u64, out: &mut Vec<Effect>) {
        let (mut vehicles, mut forgotten) = (Vec::new(), Vec::new());
        for effect in &effects {
            // A command that waits is written once only: when it is taken.
            if let Effect::Keep { key, .. } = effect
                && let number = u64::from_be_bytes(*key)
                && self.waits(number)
            {
                let entry = self.forget(number, &mut forgotten);
                vehicles.extend(entry.map(|entry| entry.vehicle));
            }
        }
        for effect in effects {
            match effect {
                Effect::Taken { to, command_id }
                    if self.users.number(to.fleet, &to.user, command_id).is_none() =>
                {
                    out.push(Effect::Refused {
                        to,
                        command_id,
                        why: Refusal::NotDurable,
                    });
                }
                Effect::Keep { key, .. }
                    if !self.entries.contains_key(&u64::from_be_bytes(key)) => {}
                Effect::Deliver { command, .. } if !self.waits(command.command_id) => {}
                still => out.push(still),
            }
        }
        out.append(&mut forgotten);
        for vehicle in vehicles {
            self.pump(vehicle, now_ms, out);
        }
    }

    fn waits(&self, number: u64) -> bool {
        let entry = self.entries.get(&number);
        entry.is_some_and(|entry| matches!(entry.state, State::Waiting(_)))
    }
}

/// See [`Entry::fingerprint`].
fn mark(command: &NewCommand) -> u32 {
    fingerprint(
        &command.name,
        command.content_type.as_deref(),
        &command.payload,
    )
}

fn new_entry(asker: &Asker, command: NewCommand, now_ms: u64) -> Entry {
    Entry {
        fleet: asker.fleet,
        user: asker.user.clone(),
        command_id: command.command_id,
        sender: Some(asker.at),
        vehicle: command.vehicle,
        fingerprint: mark(&command),
        vehicle_id: command.vehicle_id.into(),
        accepted_ms: now_ms,
        expires_ms: now_ms.saturating_add(command.ttl_ms.into()),
        state: State::Waiting(Order {
            name: command.name,
            content_type: command.content_type,
            payload: command.payload,
            deliveries: 0,
        }),
    }
}
