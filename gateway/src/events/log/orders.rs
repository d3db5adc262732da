//! Commands: what shards report about them goes into the table, and what the table wants done is done, once that is
//! durable.

use std::sync::atomic::Ordering;

use longhaul_codec::{Ack, AckKind, CommandResult, Error, ErrorCode, Message};
use longhaul_filter_engine::{FleetId, VehicleIndex};

use super::{
    super::{
        LogState,
        commands::{Asker, Bounds, Commands, Effect, NewCommand},
        handle::CommandNews,
    },
    Writer, unix_ms,
};
use crate::{
    fleet::{Holder, Interest},
    shard::{connection::place, inbox::Letter},
};

/// The commands of this node, and what is to be done about them when the batch at hand is durable.
#[derive(Debug)]
pub(super) struct Orders {
    commands: Commands,
    effects: Vec<Effect>,
    /// They are from the disk.
    restored: bool,
}

impl Orders {
    pub(super) fn new(bounds: Bounds) -> Orders {
        Orders {
            commands: Commands::new(bounds),
            effects: Vec::new(),
            restored: false,
        }
    }
}

/// An answer to a command that was not taken.
pub(super) fn refusal(code: ErrorCode, command_id: u64, says: impl Into<String>) -> Box<Message> {
    Box::new(
        Error {
            code,
            message: says.into(),
            id: command_id,
            missing: None,
        }
        .into(),
    )
}

impl Writer {
    /// Something happened that concerns commands.
    pub(super) fn command_news(&mut self, news: CommandNews) {
        let now_ms = unix_ms();
        if self.retry_at.is_some()
            && matches!(
                news,
                CommandNews::VehicleHere(..) | CommandNews::UserHere(..)
            )
        {
            // Nothing can be written, and who is here is told anew when it can.
            return;
        }
        let Orders {
            commands, effects, ..
        } = &mut self.orders;
        match news {
            CommandNews::Sent(asker, command) => self.submit(asker, *command, now_ms),
            CommandNews::Result(vehicle, from, result) => self.result(vehicle, from, *result),
            CommandNews::VehicleHere(vehicle, at) => {
                commands.vehicle_here(vehicle, at, now_ms, effects);
            }
            CommandNews::UserHere(fleet, user, at) => {
                commands.user_here(fleet, &user, at, now_ms, effects);
            }
            CommandNews::NotDelivered(vehicle, at, number) => {
                commands.not_delivered(vehicle, at, number);
            }
            CommandNews::Told(number) => commands.told(number, effects),
            CommandNews::NotTold(number, at) => commands.not_told(number, at, effects),
        }
    }

    fn submit(&mut self, asker: Asker, command: NewCommand, now_ms: u64) {
        if self.retry_at.is_some() {
            let (shard, key) = place(asker.at);
            let says = LogState::Failed.why_not();
            let answer = refusal(ErrorCode::NotDurable, command.command_id, says);
            return self.post.send(shard, Letter::Say(key, answer));
        }
        let Some(fleet_name) = self.setting.fleet.registry.fleet_name(asker.fleet) else {
            return;
        };
        // A vehicle that connects at this moment either is seen here, or sees that a command waits and says so.
        let waiting = &self.setting.log.commands_waiting;
        waiting.fetch_add(1, Ordering::Relaxed);
        Interest::fence();
        let connected = self.setting.fleet.presence.holder(command.vehicle);
        self.setting.metrics.commands.inc();
        let Orders {
            commands, effects, ..
        } = &mut self.orders;
        commands.submit(asker, &fleet_name, command, connected, now_ms, effects);
    }

    fn result(&mut self, vehicle: VehicleIndex, from: Holder, result: CommandResult) {
        let command_id = result.command_id;
        let Orders {
            commands, effects, ..
        } = &mut self.orders;
        match commands.result(vehicle, result, unix_ms(), effects) {
            Ok(true) => self.setting.metrics.command_results.inc(),
            Ok(false) => self.setting.metrics.command_results_ignored.inc(),
            Err(why) => {
                let (shard, key) = place(from);
                let answer = refusal(why.code(), command_id, why.to_string());
                self.post.send(shard, Letter::Say(key, answer));
            }
        }
    }

    /// Puts what has to be durable into the batch at hand.
    pub(super) fn write_commands(&mut self) {
        let now_ms = unix_ms();
        let Orders {
            commands, effects, ..
        } = &mut self.orders;
        if commands.next_expiry().is_some_and(|at| at <= now_ms) {
            commands.expire(now_ms, effects);
        }
        if self.retry_at.is_some() {
            return;
        }
        for effect in effects {
            match effect {
                Effect::Keep { key, value } => self.batch.command(key, Some(value)),
                Effect::Forget { key } => self.batch.command(key, None),
                _ => {}
            }
        }
    }

    /// The batch became durable, or not.
    pub(super) fn commands_written(&mut self, written: bool) {
        if self.orders.effects.is_empty() {
            return self.count_commands();
        }
        let effects = std::mem::take(&mut self.orders.effects);
        if !written {
            // New commands are refused; the rest is tried again when the log writes again.
            let mut again = Vec::new();
            self.orders
                .commands
                .not_durable(effects, unix_ms(), &mut again);
            for effect in again {
                match effect {
                    Effect::Refused { .. } => self.carry_out(effect),
                    effect => self.orders.effects.push(effect),
                }
            }
        } else {
            for effect in effects {
                self.carry_out(effect);
            }
        }
        self.count_commands();
    }

    fn count_commands(&mut self) {
        let (commands, log) = (&self.orders.commands, &self.setting.log);
        let waiting = commands.waiting();
        log.commands_waiting.store(waiting, Ordering::Relaxed);
        log.results_kept
            .store(commands.kept_results(), Ordering::Relaxed);
        self.setting.metrics.commands_waiting.set(waiting as u64);
    }

    fn carry_out(&mut self, effect: Effect) {
        let metrics = &self.setting.metrics;
        let (at, letter): (Holder, _) = match effect {
            Effect::Keep { .. } | Effect::Forget { .. } => return,
            Effect::Taken { to, command_id } => {
                let (_, key) = place(to.at);
                let ack = Ack {
                    kind: AckKind::Command,
                    id: command_id,
                    watching: 0,
                };
                (to.at, Letter::Say(key, Box::new(ack.into())))
            }
            Effect::Refused {
                to,
                command_id,
                why,
            } => {
                metrics.commands_refused.inc();
                let (_, key) = place(to.at);
                let answer = refusal(why.code(), command_id, why.to_string());
                (to.at, Letter::Say(key, answer))
            }
            Effect::Deliver {
                vehicle,
                to,
                expires_ms,
                command,
            } => {
                metrics.commands_delivered.inc();
                let (_, key) = place(to);
                (to, Letter::Deliver(key, vehicle, expires_ms, command))
            }
            Effect::Tell {
                number, at, result, ..
            } => {
                let (_, key) = place(at);
                (at, Letter::Tell(key, number, Box::new(result)))
            }
        };
        let (shard, _) = place(at);
        self.post.send(shard, letter);
    }

    /// Takes the commands that were kept.
    pub(super) fn adopt_commands(&mut self, records: Vec<(Vec<u8>, Vec<u8>)>) {
        if self.orders.restored {
            // Those in memory are the same ones, and know who is connected. If the file was damaged, they are all there is.
            return;
        }
        let registry = &self.setting.fleet.registry;
        let resolve = |fleet: &str, vehicle: &str| -> Option<(FleetId, VehicleIndex)> {
            let fleet = registry.fleet(fleet).ok()?;
            let vehicle = registry.vehicle(fleet, vehicle).ok()?;
            Some((fleet, vehicle))
        };
        let bounds = self.setting.commands;
        let now_ms = unix_ms();
        let restored = Commands::restore(bounds, records, resolve, now_ms);
        if restored.skipped > 0 {
            tracing::error!(
                commands = restored.skipped,
                "commands could not be read, or there is no room for their vehicles: they are forgotten"
            );
        }
        self.orders = Orders {
            commands: restored.commands,
            effects: restored.effects,
            restored: true,
        };
        // Whoever is connected already, where the log was waited for, is announced when it is open.
        self.count_commands();
    }
}
