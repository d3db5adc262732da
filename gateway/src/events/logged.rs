//! An event with its number, in memory and as it is kept on disk.

use std::sync::Arc;

use longhaul_codec::{Event, Message};
use longhaul_filter_engine::{FleetId, VehicleIndex};
use serde::{Deserialize, Serialize};

/// An event on its way to dashboards.
#[derive(Debug)]
pub struct Logged {
    /// Its number in the fleet's log; 0: it is in no log (qos 0).
    pub sequence: u64,
    /// Whose it is.
    pub vehicle: VehicleIndex,
    /// The message, as it is sent the first time. Always an `Event`.
    message: Message,
}

impl Logged {
    /// The event as a vehicle sent it, with what the gateway adds.
    #[must_use]
    pub fn new(event: Event, vehicle: VehicleIndex, sequence: u64, epoch: u64) -> Logged {
        Logged {
            sequence,
            vehicle,
            message: Message::Event(Event {
                vehicle: vehicle.0,
                sequence,
                epoch,
                redelivered: false,
                ..event
            }),
        }
    }

    /// What it says.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The same, for somebody who may have got it before.
    #[must_use]
    pub fn again(&self) -> Message {
        let mut message = self.message.clone();
        if let Message::Event(event) = &mut message {
            event.redelivered = true;
        }
        message
    }

    /// What it is about.
    #[must_use]
    pub fn topic(&self) -> &str {
        match &self.message {
            Message::Event(event) => &event.topic,
            _ => "",
        }
    }

    /// Memory that it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let own = size_of::<Logged>();
        match &self.message {
            Message::Event(event) => {
                own + event.topic.len()
                    + event.payload.len()
                    + event.content_type.as_ref().map_or(0, String::len)
            }
            _ => own,
        }
    }
}

/// Events of one fleet that became durable together: contiguous numbers, in order.
#[derive(Debug)]
pub struct Committed {
    /// Whose log.
    pub fleet: FleetId,
    /// The log ends here now. It may be more than the last of `events`, for a shard that missed some.
    pub through: u64,
    /// The new ones, possibly none.
    pub events: Vec<Arc<Logged>>,
}

/// An event as it is kept. The sequence and the time of receipt are beside it in the store.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record<'a> {
    /// Its sender: indexes are a process's own, ids last.
    pub vehicle_id: &'a str,
    /// See the schema.
    pub topic: &'a str,
    /// See the schema.
    pub message_id: u64,
    /// The vehicle's.
    pub time_ms: u64,
    /// See the schema.
    pub content_type: Option<&'a str>,
    /// See the schema.
    pub payload: &'a [u8],
}

impl<'a> Record<'a> {
    /// What is to be kept of an event.
    #[must_use]
    pub fn of(vehicle_id: &'a str, event: &'a Event) -> Record<'a> {
        Record {
            vehicle_id,
            topic: &event.topic,
            message_id: event.message_id,
            time_ms: event.time_ms,
            content_type: event.content_type.as_deref(),
            payload: &event.payload,
        }
    }

    /// Appends it to `into`.
    pub fn write(&self, into: Vec<u8>) -> Vec<u8> {
        // Into a vector, and of plain fields: there is nothing that could fail.
        postcard::to_extend(self, into).unwrap_or_default()
    }

    /// Reads one; `None` if that is none.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Option<Record<'a>> {
        postcard::from_bytes(bytes).ok()
    }

    /// The event again. `vehicle`: the index of `vehicle_id` in this process, if it has one.
    #[must_use]
    pub fn logged(&self, vehicle: Option<VehicleIndex>, sequence: u64, epoch: u64) -> Logged {
        let event = Event {
            topic: self.topic.to_owned(),
            qos: 1,
            message_id: self.message_id,
            time_ms: self.time_ms,
            content_type: self.content_type.map(str::to_owned),
            payload: self.payload.to_vec(),
            vehicle_id: vehicle.is_none().then(|| self.vehicle_id.to_owned()),
            ..Event::default()
        };
        Logged::new(event, vehicle.unwrap_or(VehicleIndex(0)), sequence, epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let event = Event {
            topic: "door".to_owned(),
            qos: 1,
            message_id: 7,
            time_ms: 9,
            content_type: Some("text/plain".to_owned()),
            payload: b"open".to_vec(),
            ..Event::default()
        };
        let bytes = Record::of("bus-1", &event).write(Vec::new());
        let record = Record::read(&bytes).expect("it was just written");
        assert_eq!(record.vehicle_id, "bus-1");
        let logged = record.logged(Some(VehicleIndex(3)), 41, 5);
        let expected = Event {
            vehicle: 3,
            sequence: 41,
            epoch: 5,
            ..event
        };
        assert_eq!(logged.message(), &Message::Event(expected.clone()));
        let again = Event {
            redelivered: true,
            ..expected
        };
        assert_eq!(logged.again(), Message::Event(again));
        assert!(Record::read(&bytes[..3]).is_none());
        let stranger = record.logged(None, 41, 5);
        let Message::Event(event) = stranger.message() else {
            panic!("an event")
        };
        assert_eq!(
            (event.vehicle, event.vehicle_id.as_deref()),
            (0, Some("bus-1"))
        );
    }
}
