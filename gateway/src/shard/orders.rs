//! Commands, as far as connections are concerned: from dashboards to the log's thread, from there to vehicles, and the
//! results back.

use std::sync::Arc;

use longhaul_codec::{Command, CommandResult, ErrorCode, Message, wire};
use longhaul_filter_engine::{FleetId, VehicleIndex};

use super::{
    Core,
    clock::Now,
    connection::{Peer, Phase, holder},
    ring::Key,
};
use crate::{
    events::{
        LogState,
        commands::{Asker, Bounds, NewCommand},
        handle::{CommandNews, Request},
    },
    limits::{COMMAND_NEWS_BYTES_MAX, COMMAND_NEWS_MAX},
    session::rejection::{Bound, Rejection},
};

/// Connections that are announced in one tick.
const ANNOUNCED_PER_TICK: u32 = 4_096;

impl Core {
    /// A dashboard's command.
    pub(super) fn command(
        &mut self,
        key: Key,
        command: wire::Command<'_>,
    ) -> Result<(), Rejection> {
        let id = command.command_id();
        let refuse = |code, says: &'static str| Err(Rejection::new(code, id, says));
        let at = holder(self.exchange.shard(), key);
        let unix_s = self.now.unix_ms / 1_000;
        let Some(connection) = self.connections.get_mut(key) else {
            return Ok(());
        };
        let Peer::Dashboard(dashboard) = &connection.peer else {
            return Ok(());
        };
        let vehicle = command
            .vehicle_id()
            .and_then(|id| self.fleet.registry.find(dashboard.fleet, id));
        let whole = dashboard.may.command;
        let may = dashboard.access.as_ref().map_or(whole, |access| {
            let is_member = |group, vehicle| self.fleet.groups.is_member(group, vehicle);
            access.commands(vehicle, unix_s, whole, is_member)
        });
        if !may {
            // The same words whether there is such a vehicle or not.
            self.metrics.beyond_grant_command.inc();
            return refuse(
                ErrorCode::NotAllowed,
                "your token does not let you send commands to this vehicle: it needs \"command\" in its claim `may`, or \
                 in that of an entry of `grants` that has the vehicle",
            );
        }
        let state = self.events.state();
        if state != LogState::Open {
            return refuse(ErrorCode::NotDurable, state.why_not());
        }
        let Some(vehicle_id) = command.vehicle_id() else {
            return refuse(ErrorCode::Malformed, "a command needs a vehicle_id");
        };
        let fleet = dashboard.fleet;
        let Some(vehicle) = vehicle else {
            return refuse(
                ErrorCode::UnknownVehicle,
                "this gateway knows no vehicle of that id in your fleet",
            );
        };
        let asker = Asker {
            fleet,
            user: Arc::from(&*dashboard.user),
            at,
        };
        let name = command.name();
        let new = NewCommand {
            command_id: id,
            vehicle,
            vehicle_id: vehicle_id.to_owned(),
            name: name.to_owned(),
            content_type: command.content_type().map(str::to_owned),
            payload: command
                .payload()
                .map_or_else(Vec::new, |payload| payload.bytes().to_vec()),
            ttl_ms: command.ttl_ms(),
        };
        let bounds = Bounds::new(&self.config.limits);
        if let Err(why) = bounds.check(&new) {
            return Err(Rejection::new(why.code(), id, why.to_string()));
        }
        if !self.report_sent(CommandNews::Sent(asker, Box::new(new))) {
            let says = "too many commands wait to be written; send it again in a second";
            let rejection = Rejection::new(ErrorCode::LimitReached, id, says);
            return Err(rejection.over(Bound::CommandNews));
        }
        self.witness_command(key, id, vehicle_id, name);
        Ok(())
    }

    /// A vehicle's result.
    pub(super) fn command_result(
        &mut self,
        key: Key,
        me: VehicleIndex,
        result: wire::CommandResult<'_>,
    ) -> Result<(), Rejection> {
        let id = result.command_id();
        let state = self.events.state();
        if state != LogState::Open {
            return Err(Rejection::new(ErrorCode::NotDurable, id, state.why_not()));
        }
        let from = holder(self.exchange.shard(), key);
        let result = CommandResult {
            vehicle: me.0,
            ..CommandResult::from(result)
        };
        let bounds = Bounds::new(&self.config.limits);
        if let Err(why) = bounds.check_result(&result) {
            return Err(Rejection::new(why.code(), id, why.to_string()));
        }
        if !self.report_sent(CommandNews::Result(me, from, Box::new(result))) {
            let says = "too many results wait to be written; send it again in a second";
            let rejection = Rejection::new(ErrorCode::LimitReached, id, says);
            return Err(rejection.over(Bound::CommandNews));
        }
        Ok(())
    }

    /// A vehicle has connected: commands may wait for it.
    pub(super) fn vehicle_came(&mut self, key: Key, vehicle: VehicleIndex) {
        if self.events.has_commands() {
            let at = holder(self.exchange.shard(), key);
            self.report(CommandNews::VehicleHere(vehicle, at));
        }
    }

    /// A dashboard has connected: results may wait for its user.
    pub(super) fn user_came(&mut self, key: Key, fleet: FleetId, user: &str) {
        if self.events.has_results() {
            let at = holder(self.exchange.shard(), key);
            self.report(CommandNews::UserHere(fleet, user.into(), at));
        }
    }

    /// A command for a vehicle of this shard.
    pub(super) fn deliver_command(
        &mut self,
        key: Key,
        vehicle: VehicleIndex,
        expires_ms: u64,
        command: &Command,
        now: Now,
    ) {
        let is_here = self.connections.get_mut(key).is_some_and(|connection| {
            connection.phase == Phase::Open
                && matches!(&connection.peer, Peer::Vehicle { vehicle: own, .. } if *own == vehicle)
        });
        if !is_here {
            let at = holder(self.exchange.shard(), key);
            self.report(CommandNews::NotDelivered(vehicle, at, command.command_id));
            return;
        }
        // Too late: whoever sent it is told by the one who watches the time.
        if let Some(left_ms) = expires_ms.checked_sub(now.unix_ms).filter(|left| *left > 0) {
            let command = Command {
                ttl_ms: u32::try_from(left_ms).unwrap_or(u32::MAX),
                ..command.clone()
            };
            self.answer(key, &command.into());
        }
    }

    /// What became of a command, for its sender.
    pub(super) fn tell_result(&mut self, key: Key, number: u64, result: CommandResult) {
        let is_here = self.connections.get_mut(key).is_some_and(|connection| {
            connection.phase == Phase::Open && matches!(connection.peer, Peer::Dashboard(_))
        });
        if is_here {
            self.answer(key, &result.into());
        }
        // Too much may have waited for it already.
        if is_here && self.flow(key).is_continue() {
            self.report(CommandNews::Told(number));
        } else {
            let at = holder(self.exchange.shard(), key);
            self.report(CommandNews::NotTold(number, at));
        }
    }

    /// A message for one connection, if it is still there.
    pub(super) fn say(&mut self, key: Key, message: &Message) {
        if matches!(message, Message::Error(_)) {
            self.metrics.errors_out.inc();
        }
        self.answer(key, message);
    }

    /// Queues what a client sent for the log's thread. False if too much waits for it.
    fn report_sent(&mut self, news: CommandNews) -> bool {
        let out = &self.out;
        if out.command_news.len() >= COMMAND_NEWS_MAX
            || out.command_news_bytes + news.bytes() > COMMAND_NEWS_BYTES_MAX
        {
            return false;
        }
        self.report(news);
        true
    }

    /// Queues something for the log's thread. There is at most one of a kind for each connection and each command.
    fn report(&mut self, news: CommandNews) {
        self.out.command_news_bytes += news.bytes();
        self.out.command_news.push_back(news);
    }

    /// The log has not heard of those who are connected: they are announced as if they came now, some in each tick.
    pub(super) fn announce_all(&mut self) {
        self.announcing = Some(0);
    }

    fn go_on_announcing(&mut self) {
        let Some(from) = self.announcing else {
            return;
        };
        let (commands, results) = (self.events.has_commands(), self.events.has_results());
        let slots = self.connections.slots();
        let until = from.saturating_add(ANNOUNCED_PER_TICK).min(slots);
        self.announcing = (results && until < slots).then_some(until);
        if !results {
            return;
        }
        for slot in from..until {
            let Some((key, connection)) = self.connections.slot_mut(slot) else {
                continue;
            };
            if connection.phase != Phase::Open {
                continue;
            }
            match &connection.peer {
                Peer::Vehicle { vehicle, .. } if commands => {
                    let vehicle = *vehicle;
                    self.vehicle_came(key, vehicle);
                }
                Peer::Dashboard(dashboard) => {
                    let (fleet, user) = (dashboard.fleet, dashboard.user.clone());
                    self.user_came(key, fleet, &user);
                }
                _ => {}
            }
        }
    }

    /// Hands over what is queued, as far as there is room. Part of step 2.
    pub(super) fn hand_over_news(&mut self) {
        self.go_on_announcing();
        while let Some(news) = self.out.command_news.pop_front() {
            self.out.command_news_bytes -= news.bytes();
            if let Err(Request::Command(news)) = self.events.ask(Request::Command(news)) {
                self.out.command_news_bytes += news.bytes();
                self.out.command_news.push_front(news);
                return;
            }
        }
    }
}
