//! The vehicles and dashboards of one generator process: what they answer, and what they hand to the checker.

use std::collections::BTreeMap;

use longhaul_codec::{AckKind, Encoder, MessageRef, Role as WireRole, decode};

use crate::audience::{Audience, Filter, Watch};
use crate::checker::Checker;
use crate::connection::{Closed, Incoming};
use crate::job::Share;
use crate::pool::Handler;
use crate::position::{FIX_BYTES, read_fix};
use crate::resume::Resumptions;
use crate::schedule::Plan;
use crate::subscribe::{self, Wanted};
use crate::token::FLEET;

mod foreign;

use foreign::Foreign;

/// How many reasons of failure are kept, of however many there are.
const REASONS_MAX: usize = 8;
/// What is assumed if a gateway does not say: smaller than any sensible limit.
const MESSAGE_BYTES_MIN: usize = 4_096;

/// Ids below `vehicles.len()` are vehicles, those after them dashboards, in the order of these lists.
pub struct Clients<'a, P> {
    /// The schedule.
    pub plan: &'a P,
    /// What checks deliveries.
    pub checker: Checker,
    /// Numbers of this process's vehicles.
    pub vehicles: Vec<u32>,
    /// Numbers of this process's dashboards.
    pub dashboards: Vec<usize>,
    /// Connections that are ready: welcomed, and all subscriptions acknowledged.
    pub ready: usize,
    /// Connections that ended.
    pub closed: usize,
    /// Those of them that were vehicles.
    pub closed_vehicles: usize,
    /// All of them by close code.
    pub closes: BTreeMap<u16, u64>,
    /// What came after this process had been stopped for a while.
    pub resumptions: Resumptions,
    /// Ids that dashboards were given, of those they watch.
    pub named: usize,
    /// Pings of vehicles that were answered.
    pub pongs: usize,
    /// `Error` messages and messages that make no sense.
    pub errors: u64,
    /// Why connections ended and what errors said, the first few.
    pub reasons: Vec<String>,
    audience: &'a Audience,
    min_interval_ms: u32,
    encoder: Encoder,
    /// Per dashboard: acknowledgements that are still to come.
    acks: Vec<u32>,
    /// Connections that end are no fault any more.
    closing: bool,
    foreign: Option<Foreign>,
}

impl<'a, P: Plan> Clients<'a, P> {
    /// What process `process` of `processes` has of their `share`.
    ///
    /// # Errors
    /// The checker cannot be made.
    pub fn new(
        plan: &'a P,
        audience: &'a Audience,
        share: &Share,
        process: usize,
        processes: usize,
        sample_every: u32,
    ) -> anyhow::Result<Self> {
        let vehicles = if share.vehicles { plan.vehicles() } else { 0 };
        let vehicles = (0..vehicles).skip(process).step_by(processes).collect();
        let dashboards: Vec<usize> = share
            .dashboards
            .clone()
            .skip(process)
            .step_by(processes)
            .collect();
        let dashboards_of_process = dashboards.len();
        Ok(Self {
            plan,
            checker: Checker::new(audience, &dashboards, sample_every)?,
            vehicles,
            acks: vec![0; dashboards_of_process],
            dashboards,
            ready: 0,
            closed: 0,
            closed_vehicles: 0,
            closes: BTreeMap::new(),
            resumptions: Resumptions::new(dashboards_of_process),
            named: 0,
            pongs: 0,
            errors: 0,
            reasons: Vec::new(),
            audience,
            min_interval_ms: share.min_interval_ms,
            encoder: Encoder::new(),
            closing: false,
            foreign: None,
        })
    }

    /// Ids that dashboards should be given before the run: of every vehicle that they watch.
    pub fn names_expected(&self) -> usize {
        self.dashboards
            .iter()
            .map(|&dashboard| match self.audience.watches[dashboard] {
                Watch::All => self.audience.vehicles as usize,
                Watch::Count(count) => count.min(self.audience.vehicles) as usize,
            })
            .sum()
    }

    /// From now on connections that end are no fault.
    pub fn finish(&mut self) {
        self.closing = true;
    }

    /// Keeps a reason, and counts it as an error.
    fn complain(&mut self, reason: String) {
        self.errors += 1;
        self.note(reason);
    }

    fn note(&mut self, reason: String) {
        if self.reasons.len() < REASONS_MAX && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    fn vehicle_message(&mut self, id: usize, message: MessageRef<'_>) {
        match message {
            MessageRef::Welcome(welcome) => {
                let expected = self.plan.id(self.vehicles[id]);
                let found = (welcome.role(), welcome.fleet(), welcome.subject());
                if found == (WireRole::Vehicle.into(), FLEET, expected.as_str()) {
                    self.ready += 1;
                } else {
                    self.complain(format!("vehicle {expected} was welcomed as {found:?}"));
                }
            }
            other => self.other_message(other),
        }
    }

    fn dashboard_message(
        &mut self,
        at: usize,
        message: MessageRef<'_>,
        bytes: usize,
        now_ns: u64,
        reply: &mut Vec<u8>,
    ) {
        match message {
            MessageRef::Positions(positions) => {
                let fixes = positions
                    .fixes()
                    .bytes()
                    .chunks_exact(FIX_BYTES)
                    .map(read_fix);
                let before = self.checker.counts;
                self.checker
                    .positions(self.plan, at, fixes.clone(), bytes, now_ns);
                if self.resumptions.awaits(at) {
                    let oldest_ms = fixes.map(|fix| fix.time_ms).min();
                    let encoded_ms = positions.gateway_time_ms();
                    self.resumptions
                        .took(at, encoded_ms, oldest_ms, &before, &self.checker.counts);
                }
            }
            MessageRef::Names(names) => self.names(at, names),
            MessageRef::Ack(ack) if ack.kind() == AckKind::Subscribe.into() => {
                match self.acks[at] {
                    0 => {
                        self.complain(format!("an Ack for request {} that was not made", ack.id()))
                    }
                    1 => {
                        self.acks[at] = 0;
                        self.ready += 1;
                        self.check_watching(at, ack.watching());
                    }
                    _ => self.acks[at] -= 1,
                }
            }
            MessageRef::Welcome(welcome) => {
                if welcome.role() != WireRole::Dashboard.into() || welcome.fleet() != FLEET {
                    let found = (welcome.role(), welcome.fleet());
                    self.complain(format!("a dashboard was welcomed as {found:?}"));
                }
                let limit = (welcome.message_bytes_max() as usize).max(MESSAGE_BYTES_MIN);
                let wanted = match self.audience.filter(self.dashboards[at]) {
                    Filter::All => Wanted::WholeFleet,
                    Filter::Some(vehicles) => {
                        Wanted::Vehicles(vehicles.iter().map(|&v| self.plan.id(v)).collect())
                    }
                };
                self.acks[at] = subscribe::write_frames(
                    reply,
                    &mut self.encoder,
                    wanted,
                    self.min_interval_ms,
                    limit,
                );
                if self.acks[at] == 0 {
                    self.ready += 1;
                }
            }
            other => self.other_message(other),
        }
    }

    /// The gateway's last Ack says how much the dashboard watches now.
    fn check_watching(&mut self, at: usize, watching: u32) {
        let expected = match self.audience.watches[self.dashboards[at]] {
            Watch::All => u32::MAX,
            Watch::Count(count) => count.min(self.audience.vehicles),
        };
        if watching != expected {
            self.complain(format!(
                "a dashboard watches {watching} vehicles, not {expected}"
            ));
        }
    }

    fn names(&mut self, at: usize, names: longhaul_codec::wire::Names<'_>) {
        let (vehicles, ids) = (names.vehicles(), names.ids());
        if vehicles.len() != ids.len() {
            self.complain(format!(
                "Names with {} indexes, {} ids",
                vehicles.len(),
                ids.len()
            ));
        }
        for (index, id) in vehicles.iter().zip(ids.iter()) {
            // A vehicle from outside this run is no fault: the whole fleet may have more.
            let Some(vehicle) = self.plan.vehicle_of(id) else {
                continue;
            };
            match self.checker.name(at, index, vehicle) {
                Ok(first) => self.named += usize::from(first),
                Err(error) => self.complain(error.to_string()),
            }
        }
    }

    fn other_message(&mut self, message: MessageRef<'_>) {
        match message {
            MessageRef::Error(error) => {
                self.complain(format!("{:?}: {}", error.code(), error.message()));
            }
            MessageRef::Drain(drain) if !self.closing => {
                self.note(format!(
                    "the gateway drains: {}",
                    drain.reason().unwrap_or_default()
                ));
            }
            MessageRef::Presence(_) | MessageRef::Ack(_) | MessageRef::Drain(_) => {}
            other => self.complain(format!("an unexpected message: {other:?}")),
        }
    }
}

impl<P: Plan> Handler for Clients<'_, P> {
    fn incoming(&mut self, id: usize, incoming: Incoming<'_>, now_ns: u64, reply: &mut Vec<u8>) {
        self.resumptions.at(now_ns);
        match incoming {
            Incoming::Upgraded => self.hello(id, reply),
            Incoming::Pong => self.pongs += 1,
            Incoming::Message {
                message,
                frame_bytes,
            } if self.foreign.is_some() => {
                self.foreign_message(id, (message, frame_bytes), now_ns, reply);
            }
            Incoming::Message {
                message,
                frame_bytes,
            } => match decode(message) {
                Ok(message) => match id.checked_sub(self.vehicles.len()) {
                    None => self.vehicle_message(id, message),
                    Some(at) => self.dashboard_message(at, message, frame_bytes, now_ns, reply),
                },
                Err(error) => self.complain(format!("a message does not decode: {error}")),
            },
        }
    }

    fn closed(&mut self, id: usize, why: Closed) {
        if !self.closing {
            self.closed += 1;
            self.closed_vehicles += usize::from(id < self.vehicles.len());
            *self.closes.entry(why.code()).or_default() += 1;
            self.note(why.to_string());
        }
    }
}
