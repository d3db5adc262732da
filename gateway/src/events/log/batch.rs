//! From events to one batch for the store: which are retries, which number each gets.

use std::sync::Arc;

use longhaul_filter_engine::{FleetId, VehicleIndex};

use super::{
    super::{
        LogState, Logged,
        handle::Publish,
        logged::Record,
        store::{LogFleet, StoreError},
        window::{Verdict, Window},
    },
    Place, Refused, Writer,
};
use crate::{fleet::Holder, limits::SENDERS_CACHED_MAX};

/// What the batch at hand consists of.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Events that are new, in order, by fleet.
    pub(super) new: Vec<New>,
    /// Verdicts that wait for the batch.
    pub(super) answers: Vec<Answer>,
    /// Room to give back.
    pub(super) bytes: usize,
    pub(super) taken: usize,
}

/// An event that is new.
#[derive(Debug)]
pub(super) struct New {
    pub(super) fleet: FleetId,
    pub(super) logged: Arc<Logged>,
}

/// A verdict.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) to: Holder,
    pub(super) message_id: u64,
    /// `Ok`: if the batch becomes durable.
    pub(super) verdict: Result<(), Refused>,
    /// It is durable already, whatever becomes of the batch.
    pub(super) again: bool,
}

impl Gathered {
    pub(super) fn len(&self) -> usize {
        self.taken
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Writer {
    /// Takes one event into the batch, or says why not.
    pub(super) fn publish(&mut self, publish: Publish, now_ms: u64) {
        let Publish {
            from,
            fleet,
            vehicle,
            event,
        } = &publish;
        self.gathered.taken += 1;
        self.gathered.bytes += publish.bytes();
        let message_id = event.message_id;
        let mut answer = Answer {
            to: *from,
            message_id,
            verdict: Ok(()),
            again: false,
        };
        let verdict = if self.holds.lets(*from, message_id, now_ms) {
            self.judge(*fleet, *vehicle, message_id)
        } else {
            Err(Refused::Held)
        };
        match verdict {
            Ok(Verdict::New) => {
                let (fleet, vehicle) = (*fleet, *vehicle);
                if self.append(fleet, vehicle, publish, now_ms) {
                    self.remember(fleet, vehicle, message_id);
                } else {
                    answer.verdict = Err(Refused::State(LogState::Failed));
                    self.holds.refuse(answer.to, message_id, now_ms);
                }
            }
            Ok(Verdict::Again) => {
                // The first one may be in this very batch.
                answer.again = !self.touched.contains_key(vehicle);
                self.setting.metrics.duplicates.inc();
            }
            Ok(Verdict::TooOld) => answer.verdict = Err(Refused::Old),
            Err(refused) => {
                answer.verdict = Err(refused);
                if refused != Refused::Held {
                    self.holds.refuse(answer.to, message_id, now_ms);
                }
            }
        }
        self.gathered.answers.push(answer);
    }

    fn judge(
        &mut self,
        fleet: FleetId,
        vehicle: VehicleIndex,
        id: u64,
    ) -> Result<Verdict, Refused> {
        let failed = Refused::State(LogState::Failed);
        if self.retry_at.is_some() {
            return Err(failed);
        }
        if let Some(window) = self.senders.get(&vehicle) {
            return Ok(window.judge(id));
        }
        let Some(place) = self.place(fleet) else {
            return Err(failed);
        };
        let window = match self.known_ids(place, vehicle) {
            Ok(window) => window,
            Err(error) => {
                tracing::error!(%error, "cannot read a vehicle's last message ids");
                return Err(failed);
            }
        };
        let verdict = window.judge(id);
        if self.senders.len() >= SENDERS_CACHED_MAX {
            // Those of the batch at hand are not in the store yet.
            let touched = &self.touched;
            self.senders
                .retain(|vehicle, _| touched.contains_key(vehicle));
        }
        self.senders.insert(vehicle, window);
        Ok(verdict)
    }

    fn known_ids(&mut self, place: Place, vehicle: VehicleIndex) -> Result<Window, StoreError> {
        if !place.known || !self.called(vehicle) {
            return Ok(Window::default());
        }
        let kept = self.store.sender(place.number, &self.name)?;
        Ok(kept
            .and_then(|bytes| Window::read(&bytes))
            .unwrap_or_default())
    }

    /// Puts a vehicle's id into `name`.
    fn called(&mut self, vehicle: VehicleIndex) -> bool {
        self.name.clear();
        let name = &mut self.name;
        self.setting
            .fleet
            .registry
            .with_id(vehicle, |id| name.push_str(id))
    }

    /// Where a fleet's events go.
    fn place(&mut self, fleet: FleetId) -> Option<Place> {
        if let Some(place) = self.places.get(&fleet) {
            return Some(*place);
        }
        let name = self.setting.fleet.registry.fleet_name(fleet)?;
        let place = self.by_name.get(&*name).copied().unwrap_or(Place {
            number: LogFleet(self.next_number),
            last: 0,
            known: false,
        });
        if !place.known {
            self.next_number += 1;
            self.batch.fleet(place.number, &name);
        }
        self.settle(fleet, place);
        Some(place)
    }

    /// A fleet of this process is this one of the store.
    pub(super) fn settle(&mut self, fleet: FleetId, place: Place) {
        self.places.insert(fleet, place);
        self.numbered().insert(fleet, place.number);
    }

    /// Gives an event its number and puts it into the batch.
    fn append(
        &mut self,
        fleet: FleetId,
        vehicle: VehicleIndex,
        publish: Publish,
        now_ms: u64,
    ) -> bool {
        if self.place(fleet).is_none() || !self.called(vehicle) {
            return false;
        }
        let Some(place) = self.places.get_mut(&fleet) else {
            return false;
        };
        place.last += 1;
        self.record.clear();
        let record = std::mem::take(&mut self.record);
        self.record = Record::of(&self.name, &publish.event).write(record);
        self.batch
            .append(place.number, place.last, now_ms, &self.record);
        let epoch = self.setting.log.epoch();
        let logged = Logged::new(publish.event, vehicle, place.last, epoch);
        self.gathered.new.push(New {
            fleet,
            logged: Arc::new(logged),
        });
        true
    }

    fn remember(&mut self, fleet: FleetId, vehicle: VehicleIndex, message_id: u64) {
        if let Some(window) = self.senders.get_mut(&vehicle) {
            window.record(message_id);
        }
        self.touched.insert(vehicle, fleet);
    }

    /// Puts the changed windows into the batch.
    pub(super) fn write_senders(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for (vehicle, fleet) in touched.drain() {
            if self.called(vehicle)
                && let Some(place) = self.places.get(&fleet)
                && let Some(window) = self.senders.get(&vehicle)
            {
                self.batch.sender(place.number, &self.name, &window.write());
            }
        }
        self.touched = touched;
    }
}
