//! The terms, each with its reason.
//!
//! - `limits/budget/terms/connected.rs`: what is there for connections, vehicles and dashboards
//! - `limits/budget/terms/under_way.rs`: what is received, handed on and answered
//! - `limits/budget/terms/events.rs`: events that must arrive
//! - `limits/budget/terms/grants.rs`: what tokens grant, and who is in which group
//! - `limits/budget/terms/secured.rs`: TLS
//! - `limits/budget/terms/kernel.rs`: what the kernel holds for it

mod connected;
mod events;
mod grants;
mod kernel;
mod secured;
mod under_way;

use super::{Load, Part, Term, Weight};
use crate::{config::Config, limits::REFUSALS_IN_FLIGHT_MAX};

const NOTHING: (u64, u64) = (0, 0);

/// What of the code's sizes a budget counts with.
const fn size(bytes: usize) -> u64 {
    bytes as u64
}

/// Room of a vector that has grown to `count` one by one: it doubles.
fn grown(count: u64) -> u64 {
    match count {
        0 => 0,
        count => count.checked_next_power_of_two().unwrap_or(u64::MAX),
    }
}

/// The most that it has room for, and what it moves from while it grows.
fn growing(count: u64) -> u64 {
    count.saturating_mul(3)
}

/// Buckets of a hash table with so many entries. Each has a byte beside its entry.
fn buckets(count: u64) -> u64 {
    match count {
        0 => 0,
        count => grown((count.saturating_mul(8) / 7).saturating_add(1)).max(4),
    }
}

/// The same, and half as many again, from which it moves while it grows.
fn rehashing(count: u64) -> u64 {
    buckets(count).saturating_add(buckets(count) / 2)
}

/// A budget that is being drawn up.
pub struct Sheet<'a> {
    config: &'a Config,
    load: Load,
    /// Vehicles that are connected, as far as they are let in.
    vehicles: u64,
    /// Vehicles that can be known.
    vehicles_max: u64,
    /// Vehicles that a dashboard may list.
    listed_max: u64,
    terms: Vec<Term>,
}

impl<'a> Sheet<'a> {
    pub fn new(config: &'a Config, load: Load) -> Sheet<'a> {
        let limits = &config.limits;
        let vehicles_max = u64::from(limits.vehicles_max);
        Sheet {
            config,
            load: Load {
                shards: load.shards.max(1),
                ..load
            },
            vehicles: load.vehicles().min(vehicles_max),
            vehicles_max,
            listed_max: u64::from(limits.subscription_vehicles_max).min(vehicles_max),
            terms: Vec::new(),
        }
    }

    pub fn filled(mut self) -> Vec<Term> {
        self.connections();
        self.secured();
        self.vehicles();
        self.dashboards();
        self.groups();
        self.grants();
        self.shards();
        self.under_way();
        self.events();
        self.commands();
        self.kernel();
        self.terms
            .retain(|term| term.at_most.bytes() > 0 || term.usual.bytes() > 0);
        self.terms
    }

    fn add(
        &mut self,
        part: Part,
        name: &'static str,
        usual: (u64, u64),
        at_most: (u64, u64),
        why: &'static str,
    ) {
        let weight = |(count, bytes_each)| Weight { count, bytes_each };
        self.terms.push(Term {
            part,
            name,
            usual: weight(usual),
            at_most: weight(at_most),
            why,
        });
    }

    /// What `of` makes of each shard's share of a number, over all shards.
    fn in_shards(&self, number: u64, of: impl Fn(u64) -> u64) -> u64 {
        of(number.div_ceil(self.load.shards)).saturating_mul(self.load.shards)
    }

    /// Connections that are told that they cannot come in, and are no part of the load.
    fn refusals(&self) -> u64 {
        (REFUSALS_IN_FLIGHT_MAX as u64).saturating_mul(self.load.shards)
    }

    /// Completions that a tick takes: what is taken keeps its buffer until the tick has handled it.
    fn completions(&self) -> u64 {
        let receive = &self.config.receive;
        u64::from(receive.completions_per_tick_max.min(receive.buffers))
    }
}
