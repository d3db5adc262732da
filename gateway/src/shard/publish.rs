//! Events from vehicles: to the log, or straight on; and the log's verdicts back to the vehicles.

use std::{collections::HashMap, sync::Arc};

use longhaul_codec::{Ack, AckKind, Error, ErrorCode, Message, MessageRef, decode, json, wire};
use longhaul_filter_engine::{FleetId, VehicleIndex};

use super::{Core, clock::Now, connection::holder, outbound::append_encoded, ring::Key};
use crate::{
    events::{
        LogState, Logged,
        handle::{Publish, Request},
        hold::Holds,
        log::{Published, Refused},
    },
    fleet::Extra,
    session::{
        event::{EventRules, check_event, taken},
        rejection::{Bound, Rejection},
    },
};

/// Vehicles of this shard with events under way.
#[derive(Debug, Default)]
pub struct Publishers {
    /// By connection: events that wait for a verdict.
    in_flight: HashMap<Key, u32>,
    holds: Holds<Key>,
}

impl Publishers {
    /// A connection is gone.
    pub fn forget(&mut self, key: Key) {
        self.in_flight.remove(&key);
        self.holds.forget(&key);
    }
}

fn refused(id: u64, why: Refused) -> Result<(), Rejection> {
    let (code, says) = why.says();
    Err(Rejection::new(code, id, says))
}

impl Core {
    /// A vehicle's event.
    pub(super) fn event(
        &mut self,
        key: Key,
        fleet: FleetId,
        me: VehicleIndex,
        event: wire::Event<'_>,
        now: Now,
    ) -> Result<(), Rejection> {
        let rules = EventRules {
            payload_bytes_max: self.config.limits.event_payload_bytes_max,
        };
        let message_id = event.message_id();
        let may = self.check_event_topic(key, event, now);
        let checked = may
            .and_then(|()| check_event(event, me, rules))
            .and_then(|()| {
                let of_whom = self.own_id(me, event.vehicle_id());
                of_whom.map_err(|rejection| Rejection {
                    id: message_id,
                    ..rejection
                })
            });
        if checked.is_err() {
            // It is not to come back with it.
            self.publishers.holds.give_up(key, message_id);
            return checked;
        }
        if event.qos() == 0 {
            let interest = &self.fleet.interest;
            let watched = interest.fleet(fleet) | interest.vehicle(me);
            // Most events match nobody: those are not even copied.
            if interest.extra(fleet, Extra::Events) & watched != 0 {
                let logged = Logged::new(taken(event, now.unix_ms), me, 0, 0);
                self.out.events.push((fleet, Arc::new(logged)));
            }
            return Ok(());
        }
        if !self.publishers.holds.lets(key, message_id, now.mono_ms) {
            self.metrics.events_refused.inc();
            return refused(message_id, Refused::Held);
        }
        let event = taken(event, now.unix_ms);
        let from = holder(self.exchange.shard(), key);
        let publish = Publish {
            from,
            fleet,
            vehicle: me,
            event,
        };
        let outcome = self.take_event(key, publish);
        if outcome.is_err() {
            self.metrics.events_refused.inc();
            // Later ones must not overtake it.
            self.publishers.holds.refuse(key, message_id, now.mono_ms);
        }
        outcome
    }

    fn take_event(&mut self, key: Key, publish: Publish) -> Result<(), Rejection> {
        let id = publish.event.message_id;
        match self.events.state() {
            LogState::Open => {}
            state => return refused(id, Refused::State(state)),
        }
        let window = self.config.limits.event_window;
        let in_flight = self.publishers.in_flight.get(&key).copied().unwrap_or(0);
        if in_flight >= window {
            let says = format!(
                "{window} events wait for their Ack, the limit is {window} (limits.event_window): wait, and send this \
                 one again"
            );
            let rejection = Rejection::new(ErrorCode::LimitReached, id, says);
            return Err(rejection.over(Bound::EventWindow));
        }
        if !self.events.admit(publish.bytes()) {
            let says = "the event log has as many events to write as it may (limits.events_pending_max); send it again \
                        in a second";
            let rejection = Rejection::new(ErrorCode::LimitReached, id, says);
            return Err(rejection.over(Bound::EventsPending));
        }
        self.publishers.in_flight.insert(key, in_flight + 1);
        self.out.publish.push(publish);
        Ok(())
    }

    /// An event that came too fast. It was not taken, so later ones must not overtake it, and its vehicle has to know.
    #[cold]
    pub(super) fn too_fast(&mut self, key: Key, payload: &[u8], now: Now) {
        if let Ok(MessageRef::Event(event)) = decode(payload) {
            self.hold_back(key, event.qos(), event.message_id(), now);
        }
    }

    /// The same, in JSON.
    #[cold]
    pub(super) fn too_fast_text(&mut self, key: Key, text: &str, now: Now) {
        let mut transcoder = self.transcoder.take().unwrap_or_default();
        if let Ok(encoded) = json::to_wire(text, &mut transcoder)
            && let Ok(MessageRef::Event(event)) = decode(encoded.into_payload())
        {
            self.hold_back(key, event.qos(), event.message_id(), now);
        }
        self.transcoder = Some(transcoder);
    }

    fn hold_back(&mut self, key: Key, qos: u8, id: u64, now: Now) {
        // Behind one that was refused, one more refusal says nothing new.
        if qos == 1 && id > 0 && self.publishers.holds.lets(key, id, now.mono_ms) {
            self.publishers.holds.refuse(key, id, now.mono_ms);
            self.metrics.events_refused.inc();
            let says = "too many messages or bytes per second (limits.messages_per_second_max): send this one again \
                        in a while, and those behind it";
            self.reject(key, Rejection::new(ErrorCode::LimitReached, id, says));
        }
    }

    /// Hands this tick's events to the log. Part of step 2.
    pub(super) fn hand_to_log(&mut self) {
        if self.out.publish.is_empty() {
            return;
        }
        let events = std::mem::take(&mut self.out.publish);
        let Err(Request::Publish(events)) = self.events.ask(Request::Publish(events)) else {
            return;
        };
        // The log's thread is that far behind: the vehicles keep them.
        for publish in events {
            self.events.settled(1, publish.bytes());
            let (_, key) = super::connection::place(publish.from);
            let id = publish.event.message_id;
            self.publishers.holds.refuse(key, id, self.now.mono_ms);
            self.published(vec![Published {
                key,
                message_id: id,
                verdict: Err(Refused::State(LogState::Open)),
            }]);
        }
    }

    /// The log's verdicts, sorted by connection.
    pub(super) fn published(&mut self, verdicts: Vec<Published>) {
        let mut rest = verdicts.as_slice();
        while let Some(first) = rest.first() {
            let key = first.key;
            let count = rest.iter().take_while(|next| next.key == key).count();
            let (own, others) = rest.split_at(count);
            rest = others;
            self.verdicts(key, own);
        }
    }

    /// What became of one vehicle's events, in one frame.
    fn verdicts(&mut self, key: Key, verdicts: &[Published]) {
        let Some(in_flight) = self.publishers.in_flight.get_mut(&key) else {
            // It has gone, and sends them again wherever it comes back.
            return;
        };
        *in_flight = in_flight.saturating_sub(verdicts.len() as u32);
        if *in_flight == 0 {
            self.publishers.in_flight.remove(&key);
        }
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let json = connection.json;
        let mut bytes = Vec::new();
        for Published {
            message_id: id,
            verdict,
            ..
        } in verdicts
        {
            let id = *id;
            let message: Message = match verdict {
                Ok(()) => {
                    self.metrics.event_acks_out.inc();
                    let (kind, watching) = (AckKind::Event, 0);
                    Ack { kind, id, watching }.into()
                }
                Err(refused) => {
                    self.metrics.events_refused.inc();
                    self.metrics.errors_out.inc();
                    let (code, says) = refused.says();
                    Error {
                        code,
                        message: says.to_owned(),
                        id,
                        missing: None,
                    }
                    .into()
                }
            };
            append_encoded(&mut bytes, &self.outbound.encoder.message(&message), json);
        }
        self.enqueue(key, bytes.into());
    }
}
