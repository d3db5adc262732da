//! A gateway around the commands, with vehicles and users that come and go: effects are carried out one by one, later.

use std::collections::{HashSet, VecDeque};

use proptest::sample::Index;

use super::super::record::{Record, Stored};
use super::model::{Answer, Case, Model, OnDisk};
use super::*;
use crate::limits::COMMANDS_IN_FLIGHT_MAX;

pub const VEHICLES: u32 = 3;
pub const USERS: usize = 2;

#[derive(Debug, Clone)]
pub enum Step {
    Submit {
        user: usize,
        command_id: u64,
        vehicle: u32,
        what: u8,
        ttl_ms: u32,
    },
    VehicleComes(u32),
    VehicleGoes(u32),
    Answer(u32, Index),
    UserComes(usize),
    UserGoes(usize, Index),
    Wait(u64),
    CarryOut(usize),
    DiskFails,
    Restart,
}

/// A vehicle's connection, and what it got there.
#[derive(Debug)]
pub struct Link {
    at: u64,
    got: Vec<u64>,
}

/// See above.
pub struct World {
    pub commands: Commands,
    pub model: Model,
    pub now_ms: u64,
    effects: VecDeque<Effect>,
    pub disk: BTreeMap<Key, Vec<u8>>,
    vehicles: Vec<Option<Link>>,
    users: Vec<Vec<u64>>,
    /// Whatever a vehicle ever got.
    got: HashSet<u64>,
    connections: u64,
}

impl World {
    pub fn new(bounds: Bounds) -> World {
        World {
            commands: Commands::new(bounds),
            model: Model {
                per_vehicle_max: bounds.per_vehicle_max,
                commands_max: bounds.commands_max,
                ..Model::default()
            },
            now_ms: START_MS,
            effects: VecDeque::new(),
            disk: BTreeMap::new(),
            vehicles: (0..=VEHICLES).map(|_| None).collect(),
            users: vec![Vec::new(); USERS],
            got: HashSet::new(),
            connections: 0,
        }
    }

    /// Calls the commands, which see to what has expired, and so does the model.
    fn call<T>(&mut self, call: impl FnOnce(&mut Commands, u64, &mut Vec<Effect>) -> T) -> T {
        self.model.expire(self.now_ms);
        let mut out = Vec::new();
        let answer = call(&mut self.commands, self.now_ms, &mut out);
        for effect in &out {
            if let Effect::Deliver {
                expires_ms,
                command,
                ..
            } = effect
            {
                let left_ms = u64::from(command.ttl_ms);
                assert!(left_ms > 0, "delivered when it had expired");
                assert_eq!(self.now_ms + left_ms, *expires_ms);
            }
        }
        self.effects.extend(out);
        answer
    }

    fn connection(&mut self) -> u64 {
        self.connections += 1;
        self.connections
    }

    pub fn step(&mut self, step: Step) {
        match step {
            Step::Submit {
                user,
                command_id,
                vehicle,
                what,
                ttl_ms,
            } => self.submit(user, (vehicle, what), command_id, ttl_ms),
            Step::VehicleComes(vehicle) => {
                let at = self.connection();
                self.vehicles[vehicle as usize] = Some(Link {
                    at,
                    got: Vec::new(),
                });
                self.call(|commands, now_ms, out| {
                    commands.vehicle_here(VehicleIndex(vehicle), holder(at), now_ms, out);
                });
            }
            Step::VehicleGoes(vehicle) => self.vehicles[vehicle as usize] = None,
            Step::Answer(vehicle, of) => {
                let link = self.vehicles[vehicle as usize].as_ref();
                if let Some(link) = link.filter(|link| !link.got.is_empty()) {
                    let number = *of.get(&link.got);
                    self.answer(vehicle, number);
                }
            }
            Step::UserComes(user) => {
                let at = self.connection();
                self.users[user].push(at);
                self.call(|commands, now_ms, out| {
                    let name = format!("user-{user}");
                    commands.user_here(FleetId(1), &name, holder(at), now_ms, out);
                });
            }
            Step::UserGoes(user, of) => {
                if !self.users[user].is_empty() {
                    let which = of.index(self.users[user].len());
                    self.users[user].remove(which);
                }
            }
            Step::Wait(ms) => self.now_ms += ms,
            Step::CarryOut(many) => self.carry_out(many),
            Step::DiskFails => {
                let batch = self.effects.drain(..).collect();
                self.model
                    .cases
                    .retain(|case| case.on_disk != OnDisk::No || case.finished.is_some());
                let mut out = Vec::new();
                self.commands.not_durable(batch, self.now_ms, &mut out);
                self.effects.extend(out);
            }
            Step::Restart => self.restart(),
        }
    }

    fn submit(&mut self, user: usize, (vehicle, what): (u32, u8), command_id: u64, ttl_ms: u32) {
        let Some(&at) = self.users[user].last() else {
            return;
        };
        self.model.expire(self.now_ms);
        let expected = self.model.submit(user, command_id, (vehicle, what));
        let asker = Asker {
            fleet: FleetId(1),
            user: format!("user-{user}").into(),
            at: holder(at),
        };
        let new = NewCommand {
            payload: vec![what; 9],
            ttl_ms,
            ..command(command_id, vehicle)
        };
        let connected = self.vehicles[vehicle as usize]
            .as_ref()
            .map(|link| holder(link.at));
        // First what has expired, to see what comes of the command alone.
        self.call(|commands, now_ms, out| commands.expire(now_ms, out));
        let expired = self.effects.len();
        self.call(|commands, now_ms, out| {
            commands.submit(asker, "fleet-1", new, connected, now_ms, out);
        });
        let of_it: Vec<_> = self.effects.range(expired..).collect();
        let kept = of_it.iter().any(|e| matches!(e, Effect::Keep { .. }));
        let tells = of_it.iter().any(|e| matches!(e, Effect::Tell { .. }));
        let refusal = of_it.iter().find_map(|effect| match effect {
            Effect::Refused { why, .. } => Some(why.code()),
            _ => None,
        });
        let seen = match (refusal, kept) {
            (None, true) => Answer::New,
            (None, false) => Answer::Again { finished: tells },
            (Some(ErrorCode::LimitReached), false) => Answer::Full,
            (Some(ErrorCode::Malformed), false) => Answer::OtherCommand,
            other => panic!("{other:?}"),
        };
        assert_eq!(seen, expected);
        if seen == Answer::New {
            self.model.cases.push(Case {
                number: self.commands.last_number,
                user,
                command_id,
                vehicle,
                what,
                expires_ms: self.now_ms + u64::from(ttl_ms),
                finished: None,
                on_disk: OnDisk::No,
                acknowledged: false,
                told: (0, 1),
            });
        }
    }

    /// A vehicle says the same about a command each time.
    pub fn answer(&mut self, vehicle: u32, number: u64) {
        let status = match number % 3 {
            0 => CommandStatus::Done,
            1 => CommandStatus::Refused,
            _ => CommandStatus::Failed,
        };
        self.model.expire(self.now_ms);
        let now_ms = self.now_ms;
        let case = self.model.by_number(number);
        let waiting = case.filter(|case| case.finished.is_none());
        let expected = waiting.is_some();
        if let Some(case) = waiting {
            case.finished = Some((status, now_ms));
        }
        let result = CommandResult {
            status,
            ..done(number)
        };
        let taken = self.call(|commands, now_ms, out| {
            commands.result(VehicleIndex(vehicle), result, now_ms, out)
        });
        assert_eq!(taken, Ok(expected));
    }

    fn carry_out(&mut self, many: usize) {
        for _ in 0..many {
            let Some(effect) = self.effects.pop_front() else {
                return;
            };
            self.carry_out_one(effect);
        }
    }

    fn carry_out_one(&mut self, effect: Effect) {
        match effect {
            Effect::Keep { key, value } => {
                let state = Record::read(&value).expect("it is good").state;
                if let Some(case) = self.model.by_number(u64::from_be_bytes(key)) {
                    case.on_disk = match state {
                        Stored::Waiting { .. } => OnDisk::Waiting,
                        Stored::Finished { .. } => OnDisk::Finished,
                    };
                }
                self.disk.insert(key, value);
            }
            Effect::Forget { key } => drop(self.disk.remove(&key)),
            Effect::Taken { to, command_id } => {
                let user = user_of(&to.user);
                if let Some(case) = self.model.by_sender(user, command_id) {
                    assert_ne!(case.on_disk, OnDisk::No, "{case:?}");
                    case.acknowledged = true;
                }
            }
            Effect::Refused { .. } => {}
            Effect::Deliver {
                vehicle,
                to,
                expires_ms,
                command,
            } => {
                let number = command.command_id;
                match &mut self.vehicles[vehicle.0 as usize] {
                    Some(link) if holder(link.at) == to => {
                        if self.now_ms >= expires_ms {
                            return;
                        }
                        assert!(
                            link.got.last().is_none_or(|&last| last < number),
                            "out of order or twice on one connection: {number} after {:?}",
                            link.got
                        );
                        assert!(command.redelivered || !self.got.contains(&number));
                        link.got.push(number);
                        self.got.insert(number);
                    }
                    _ => self.commands.not_delivered(vehicle, to, number),
                }
            }
            Effect::Tell {
                number,
                user,
                at,
                result,
                ..
            } => {
                let connections = &self.users[user_of(&user)];
                let is_there = connections.iter().any(|&open| holder(open) == at);
                let mut out = Vec::new();
                if is_there {
                    self.commands.told(number, &mut out);
                    if let Some(case) = self.model.by_number(number) {
                        let status = case.finished.map(|(status, _)| status);
                        assert_eq!(Some(result.status), status, "{case:?}");
                        assert_eq!(
                            (result.command_id, result.vehicle),
                            (case.command_id, case.vehicle)
                        );
                        case.told.0 += 1;
                        assert!(case.told.0 <= case.told.1, "told too often: {case:?}");
                    }
                } else {
                    self.commands.not_told(number, at, &mut out);
                }
                self.effects.extend(out);
            }
        }
    }

    fn restart(&mut self) {
        self.effects.clear();
        self.vehicles.iter_mut().for_each(|link| *link = None);
        self.users.iter_mut().for_each(Vec::clear);
        self.model.restart();
        self.model.expire(self.now_ms);
        let records: Vec<_> = self
            .disk
            .iter()
            .rev()
            .map(|(key, value)| (key.to_vec(), value.clone()))
            .collect();
        let restored = Commands::restore(self.commands.bounds, records, resolve, self.now_ms);
        assert_eq!(restored.skipped, 0);
        self.commands = restored.commands;
        self.effects.extend(restored.effects);
    }

    /// What must be so when everything that was to be done is done.
    pub fn settle(&mut self) {
        self.call(|commands, now_ms, out| commands.expire(now_ms, out));
        self.carry_out(usize::MAX);
        for vehicle in 1..=VEHICLES {
            let Some(link) = &self.vehicles[vehicle as usize] else {
                continue;
            };
            let mut window = self.model.line(vehicle);
            window.truncate(COMMANDS_IN_FLIGHT_MAX);
            let sent: Vec<u64> = link
                .got
                .iter()
                .copied()
                .filter(|number| self.commands_wait(*number))
                .collect();
            assert_eq!(sent, window, "vehicle {vehicle} has what it may have");
        }
        check(&self.commands);
        let kept: Vec<u64> = self
            .disk
            .keys()
            .map(|key| u64::from_be_bytes(*key))
            .collect();
        let mut held: Vec<u64> = self.commands.entries.keys().copied().collect();
        held.sort_unstable();
        assert_eq!(kept, held, "the disk has what the memory has");
    }

    fn commands_wait(&self, number: u64) -> bool {
        let mut waiting = self.commands.expiring.iter();
        waiting.any(|&(_, other)| other == number)
    }
}

fn user_of(name: &str) -> usize {
    let number = name.strip_prefix("user-").expect("a user");
    number.parse().expect("a number")
}
