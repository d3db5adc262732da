//! The rules, case by case. `properties` holds them together over whatever may happen, against `model`.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use longhaul_codec::{CommandResult, CommandStatus, ErrorCode};

use super::*;
use crate::config::Config;

mod bounds;
mod model;
mod properties;
mod rules;
mod world;

/// A time at which the tests begin.
const START_MS: u64 = 1_900_000_000_000;

fn holder(n: u64) -> Holder {
    Holder(NonZeroU64::new(n).expect("not 0"))
}

fn bounds() -> Bounds {
    Bounds::new(&Config::defaults().expect("defaults are good").limits)
}

fn command(command_id: u64, vehicle: u32) -> NewCommand {
    NewCommand {
        command_id,
        vehicle: VehicleIndex(vehicle),
        vehicle_id: format!("truck-{vehicle}"),
        name: "lock".to_owned(),
        content_type: Some("text/plain".to_owned()),
        payload: b"now".to_vec(),
        ttl_ms: 60_000,
    }
}

fn resolve(fleet: &str, vehicle: &str) -> Option<(FleetId, VehicleIndex)> {
    let fleet = fleet.strip_prefix("fleet-")?.parse().ok()?;
    let vehicle = vehicle.strip_prefix("truck-")?.parse().ok()?;
    Some((FleetId(fleet), VehicleIndex(vehicle)))
}

fn done(number: u64) -> CommandResult {
    CommandResult {
        command_id: number,
        status: CommandStatus::Done,
        payload: b"ok".to_vec(),
        ..CommandResult::default()
    }
}

/// Commands, a disk that takes everything at once, and a clock.
struct Bench {
    commands: Commands,
    disk: BTreeMap<Key, Vec<u8>>,
    now_ms: u64,
}

/// What a test looks at of an effect that is no write.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Taken(u64),
    Refused(u64, ErrorCode),
    /// To which connection, which number, whether again.
    Delivered(u64, u64, bool),
    /// To which connection, the sender's number.
    Told(u64, u64, CommandStatus),
}

impl Bench {
    fn new(bounds: Bounds) -> Bench {
        Bench {
            commands: Commands::new(bounds),
            disk: BTreeMap::new(),
            now_ms: START_MS,
        }
    }

    fn run<T>(
        &mut self,
        call: impl FnOnce(&mut Commands, u64, &mut Vec<Effect>) -> T,
    ) -> (T, Vec<Seen>) {
        let mut out = Vec::new();
        let answer = call(&mut self.commands, self.now_ms, &mut out);
        (answer, self.carry_out(out))
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Vec<Seen> {
        let mut seen = Vec::new();
        for effect in effects {
            seen.push(match effect {
                Effect::Keep { key, value } => {
                    self.disk.insert(key, value);
                    continue;
                }
                Effect::Forget { key } => {
                    self.disk.remove(&key);
                    continue;
                }
                Effect::Taken { command_id, .. } => Seen::Taken(command_id),
                Effect::Refused {
                    command_id, why, ..
                } => Seen::Refused(command_id, why.code()),
                Effect::Deliver { to, command, .. } => {
                    Seen::Delivered(to.0.get(), command.command_id, command.redelivered)
                }
                Effect::Tell { at, result, .. } => {
                    Seen::Told(at.0.get(), result.command_id, result.status)
                }
            });
        }
        seen
    }

    /// A user `who` sends from connection `who`; the vehicle is at `connected`.
    fn submit(&mut self, who: u64, command: NewCommand, connected: Option<u64>) -> Vec<Seen> {
        let asker = Asker {
            fleet: FleetId(1),
            user: format!("user-{who}").into(),
            at: holder(who),
        };
        let connected = connected.map(holder);
        self.run(|commands, now_ms, out| {
            commands.submit(asker, "fleet-1", command, connected, now_ms, out);
        })
        .1
    }

    fn vehicle_here(&mut self, vehicle: u32, at: u64) -> Vec<Seen> {
        self.run(|commands, now_ms, out| {
            commands.vehicle_here(VehicleIndex(vehicle), holder(at), now_ms, out);
        })
        .1
    }

    fn user_here(&mut self, who: u64, at: u64) -> Vec<Seen> {
        let user = format!("user-{who}");
        self.run(|commands, now_ms, out| {
            commands.user_here(FleetId(1), &user, holder(at), now_ms, out);
        })
        .1
    }

    fn result(
        &mut self,
        vehicle: u32,
        result: CommandResult,
    ) -> (Result<bool, Refusal>, Vec<Seen>) {
        self.run(|commands, now_ms, out| {
            commands.result(VehicleIndex(vehicle), result, now_ms, out)
        })
    }

    fn not_told(&mut self, number: u64, at: u64) -> Vec<Seen> {
        self.run(|commands, _, out| commands.not_told(number, holder(at), out))
            .1
    }

    fn told(&mut self, number: u64) {
        self.run(|commands, _, out| commands.told(number, out));
    }

    fn expire_at(&mut self, now_ms: u64) -> Vec<Seen> {
        self.now_ms = now_ms;
        self.run(|commands, now_ms, out| commands.expire(now_ms, out))
            .1
    }

    /// Begins anew with what the disk has. Returns how many records were skipped.
    fn restart(&mut self) -> u64 {
        let records = self
            .disk
            .iter()
            .map(|(key, value)| (key.to_vec(), value.clone()));
        let restored = Commands::restore(self.commands.bounds, records, resolve, self.now_ms);
        self.commands = restored.commands;
        let seen = self.carry_out(restored.effects);
        assert_eq!(seen, [], "nobody is there yet");
        restored.skipped
    }

    /// The number of the newest command.
    fn last(&self) -> u64 {
        self.commands.last_number
    }

    /// Nothing is kept, in memory or on disk.
    fn assert_empty(&self) {
        let commands = &self.commands;
        assert_eq!((commands.waiting(), commands.kept_results()), (0, 0));
        assert_eq!((commands.bytes(), commands.next_expiry()), (0, None));
        assert!(commands.entries.is_empty() && commands.lines.is_empty());
        assert!(commands.users.is_empty() && self.disk.is_empty());
    }
}

/// The tables agree with each other, and with the bounds.
fn check(commands: &Commands) {
    let bounds = &commands.bounds;
    let bytes: u64 = commands.entries.values().map(|entry| entry.bytes()).sum();
    assert_eq!(commands.bytes(), bytes);
    assert!(bytes <= bounds.bytes_max);
    assert!(commands.entries.len() <= bounds.commands_max);
    assert_eq!(
        commands.waiting() + commands.kept_results(),
        commands.entries.len()
    );
    let lines = || commands.lines.values().map(|line| line.len());
    assert_eq!(lines().sum::<usize>(), commands.waiting());
    assert!(lines().all(|len| (1..=bounds.per_vehicle_max).contains(&len)));
    for (&number, entry) in &commands.entries {
        let known = commands
            .users
            .number(entry.fleet, &entry.user, entry.command_id);
        assert_eq!(known, Some(number));
    }
    assert_eq!(commands.entries.is_empty(), commands.users.is_empty());
}
