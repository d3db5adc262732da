//! Clients of a server that does not speak Longhaul's protocol.

use longhaul_codec::Fix;

use super::Clients;
use crate::audience::Filter;
use crate::dialect::{Dialect, Heard, Speech, Who, Wish};
use crate::position::PositionFrame;
use crate::schedule::Plan;

/// What is needed for a server that does not speak Longhaul's protocol.
pub(super) struct Foreign {
    speech: Box<dyn Speech>,
    /// What reports look like.
    sent: PositionFrame,
    /// Of the message that is being read.
    fixes: Vec<Fix>,
}

impl<P: Plan> Clients<'_, P> {
    /// From now on the server is one that speaks `dialect`. Reports then carry the vehicle's number in place of an index.
    ///
    /// # Errors
    /// A frame cannot be made (a codec bug).
    pub fn speak(&mut self, dialect: Dialect) -> anyhow::Result<()> {
        let clients = self.vehicles.len() + self.dashboards.len();
        let Some(speech) = dialect.speech(clients) else {
            return Ok(());
        };
        for at in 0..self.dashboards.len() {
            let watched = match self.audience.filter(self.dashboards[at]) {
                Filter::All => (0..self.audience.vehicles).collect(),
                Filter::Some(vehicles) => vehicles,
            };
            for vehicle in watched {
                self.named += usize::from(self.checker.name(at, vehicle, vehicle)?);
            }
        }
        self.foreign = Some(Foreign {
            speech,
            sent: PositionFrame::new(true)?,
            fixes: Vec::new(),
        });
        Ok(())
    }

    /// The speech of a server that does not speak Longhaul's protocol.
    pub fn speech(&mut self) -> Option<&mut dyn Speech> {
        match &mut self.foreign {
            Some(foreign) => Some(&mut *foreign.speech),
            None => None,
        }
    }

    /// What a server hears first from connection `id`, if it does not speak Longhaul's protocol.
    pub(super) fn hello(&mut self, id: usize, reply: &mut Vec<u8>) {
        if self.foreign.is_none() {
            return;
        }
        let who = match id.checked_sub(self.vehicles.len()) {
            None => Who::Vehicle(self.plan.id(self.vehicles[id])),
            Some(at) => {
                let wish = match self.audience.filter(self.dashboards[at]) {
                    Filter::All => Wish::All,
                    Filter::Some(vehicles) => {
                        Wish::Some(vehicles.iter().map(|&v| self.plan.id(v)).collect())
                    }
                };
                Who::Dashboard(self.dashboards[at], wish)
            }
        };
        if let Some(foreign) = &mut self.foreign {
            foreign.speech.hello(id, &who, reply);
        }
    }

    /// A message of a server that does not speak Longhaul's protocol.
    pub(super) fn foreign_message(
        &mut self,
        id: usize,
        (message, bytes): (&[u8], usize),
        now_ns: u64,
        reply: &mut Vec<u8>,
    ) {
        let Some(Foreign {
            speech,
            sent,
            fixes,
        }) = &mut self.foreign
        else {
            return;
        };
        fixes.clear();
        let mut ready = 0;
        let mut corrupted = 0;
        let mut fault = None;
        speech.hear(id, message, reply, &mut |heard| match heard {
            Heard::Ready => ready += 1,
            Heard::Report(report) => match sent.fix_in(report) {
                Some(fix) => fixes.push(fix),
                None => corrupted += 1,
            },
            Heard::Fault(why) => fault = Some(why),
        });
        self.ready += ready;
        self.checker.counts.corrupted += corrupted;
        match id.checked_sub(self.vehicles.len()) {
            _ if fixes.is_empty() => {}
            Some(at) => {
                let fixes = fixes.iter().copied();
                self.checker.positions(self.plan, at, fixes, bytes, now_ns);
            }
            None => fault = Some("a vehicle was sent a report".to_owned()),
        }
        if let Some(why) = fault {
            self.complain(why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audience::{Audience, Watch};
    use crate::checker::Epoch;
    use crate::connection::Incoming;
    use crate::job::Share;
    use crate::pool::Handler;
    use crate::schedule::Synthetic;

    const EPOCH: Epoch = Epoch {
        start_ns: 0,
        wall_ms: 1_790_000_000_000,
    };

    fn hear(clients: &mut Clients<'_, Synthetic>, id: usize, message: &[u8]) -> Vec<u8> {
        let mut reply = Vec::new();
        let incoming = Incoming::Message {
            message,
            frame_bytes: message.len() + 2,
        };
        clients.incoming(id, incoming, 50_000_000, &mut reply);
        reply
    }

    /// As vehicle `vehicle` sends it.
    fn report(plan: &Synthetic, vehicle: u32, sequence: u32) -> Vec<u8> {
        let mut fix = plan.fix(vehicle, sequence, EPOCH.wall_ms);
        fix.vehicle = vehicle;
        let mut sent = Vec::new();
        let keep = |message: &[u8], _: &mut Vec<u8>| sent.extend_from_slice(message);
        PositionFrame::new(true)
            .unwrap()
            .wrapped(&fix, &mut fastrand::Rng::with_seed(1), keep);
        sent
    }

    #[test]
    fn what_another_server_delivers_is_checked_as_the_gateways_is() {
        let plan = Synthetic::new(10, 100, 1.0).unwrap();
        let audience = Audience::new(10, 1, Watch::Count(4), 1, 7);
        let share = Share::vehicles_and(0..2);
        let mut clients = Clients::new(&plan, &audience, &share, 0, 1, 1).unwrap();
        clients.speak(Dialect::Plain).unwrap();
        assert_eq!(clients.named, clients.names_expected());
        clients.checker.begin(EPOCH);
        let Filter::Some(watched) = audience.filter(0) else {
            panic!("it watches some");
        };
        let stranger = (0..10).find(|vehicle| !watched.contains(vehicle)).unwrap();

        let mut hello = Vec::new();
        clients.incoming(10, Incoming::Upgraded, 0, &mut hello);
        assert!(String::from_utf8_lossy(&hello).contains(&plan.id(watched[0])));
        assert_eq!(hear(&mut clients, 10, b"ready"), b"");
        assert_eq!(clients.ready, 1);

        let first = report(&plan, watched[0], 1);
        hear(&mut clients, 10, &first);
        assert_eq!(clients.checker.counts.delivered, 1);
        hear(&mut clients, 10, &first);
        assert_eq!(clients.checker.counts.duplicates, 1);
        hear(&mut clients, 10, &report(&plan, stranger, 1));
        assert_eq!(clients.checker.counts.wrong, 1);
        hear(&mut clients, 11, &report(&plan, stranger, 1));
        assert_eq!(clients.checker.counts.delivered, 2);
        hear(&mut clients, 10, &first[1..]);
        assert_eq!(clients.checker.counts.corrupted, 1);
        let mut other = report(&plan, watched[0], 2);
        other[0] ^= 1;
        hear(&mut clients, 10, &other);
        assert_eq!(clients.checker.counts.corrupted, 2);
        assert_eq!((clients.errors, clients.checker.counts.delivered), (0, 2));
        hear(&mut clients, 0, &first);
        assert_eq!(clients.errors, 1);
    }
}
