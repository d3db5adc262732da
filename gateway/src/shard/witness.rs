//! What the audit log is told of connections. Nothing here is on the way of a message: it is asked when somebody comes,
//! is refused, goes over a line, or is closed.

use longhaul_filter_engine::{FleetId, VehicleIndex};

use super::{
    Core,
    connection::{Peer, holder},
    ring::Key,
};
use crate::{
    audit::{Act, Kind, Role, Who},
    session::{
        close::{self, Close},
        penalty::Offence,
        token::Identity,
    },
    websocket::Refusal,
};

/// Why an upgrade was refused, for whoever keeps it: the full text may quote the path, in which somebody may have put a
/// token.
pub(super) fn without_path(refusal: &Refusal) -> &str {
    if refusal.status == http::StatusCode::NOT_FOUND {
        "There is nothing at this path."
    } else {
        &refusal.reason
    }
}

impl Core {
    /// An act on a connection, by whoever is at its other end: `who`, where a token has just been checked; else whom
    /// the connection belongs to. `None` if there is no audit log.
    #[cold]
    pub(super) fn act(&mut self, kind: Kind, key: Key, who: Option<&Identity>) -> Option<Act> {
        if !self.audit.is_on() {
            return None;
        }
        Some(Act {
            who: who.map_or_else(|| self.who(key), Who::from),
            peer: self.peer_of(key),
            connection: Some(holder(self.exchange.shard(), key)),
            ..Act::new(kind, self.now.unix_ms)
        })
    }

    /// Who is at the other end, by name. The token's id is in the line of its `connect`.
    fn who(&mut self, key: Key) -> Who {
        let Some(connection) = self.connections.get_mut(key) else {
            return Who::default();
        };
        match &connection.peer {
            Peer::Vehicle { fleet, vehicle } => {
                let (fleet, vehicle) = (*fleet, *vehicle);
                self.vehicle_by_name(fleet, vehicle)
            }
            Peer::Dashboard(dashboard) => Who {
                role: Some(Role::Dashboard),
                fleet: self.fleet.registry.fleet_name(dashboard.fleet),
                subject: Some(dashboard.user.clone()),
                token_id: None,
            },
            _ => Who::default(),
        }
    }

    fn vehicle_by_name(&self, fleet: FleetId, vehicle: VehicleIndex) -> Who {
        let registry = &self.fleet.registry;
        let mut subject = None;
        registry.with_id(vehicle, |id| subject = Some(id.into()));
        Who {
            role: Some(Role::Vehicle),
            fleet: registry.fleet_name(fleet),
            subject,
            token_id: None,
        }
    }

    /// Somebody was let in.
    pub(super) fn witness_connect(&mut self, key: Key, who: &Identity) {
        if let Some(act) = self.act(Kind::Connect, key, Some(who)) {
            self.audit.record(act);
        }
    }

    /// Somebody has said a fresh token in place: `who` is who that makes it.
    pub(super) fn witness_renewal(&mut self, key: Key, who: &Identity) {
        if let Some(act) = self.act(Kind::Renew, key, Some(who)) {
            self.audit.record(act);
        }
    }

    /// Somebody was not let in. `who`: by a token that was good, if it came to that.
    pub(super) fn witness_refusal(&mut self, key: Key, refusal: &Refusal, who: Option<&Identity>) {
        if let Some(act) = self.act(Kind::Refuse, key, who) {
            self.audit.record(Act {
                status: refusal.status.as_u16(),
                why: Some(without_path(refusal).to_owned().into()),
                ..act
            });
        }
    }

    /// Somebody has asked for more than it may.
    pub(super) fn witness_overreach(&mut self, key: Key, why: &str) {
        if let Some(act) = self.act(Kind::NotAllowed, key, None) {
            self.audit.record(Act {
                why: Some(why.to_owned().into()),
                ..act
            });
        }
    }

    /// A peer's address was put into the penalty box.
    pub(super) fn witness_penalty(&mut self, key: Key, offence: Offence, stay_ms: u64) {
        if let Some(act) = self.act(Kind::Penalty, key, None) {
            let (last, seconds) = (offence.name(), stay_ms.div_ceil(1_000));
            self.audit.record(Act {
                why: Some(format!("kept out for {seconds} s; the last offence: {last}").into()),
                ..act
            });
        }
    }

    /// A dashboard's command was taken.
    pub(super) fn witness_command(&mut self, key: Key, id: u64, vehicle_id: &str, name: &str) {
        if let Some(act) = self.act(Kind::Command, key, None) {
            self.audit.record(Act {
                what: Some(format!("{name:?} ({id}) for {vehicle_id:?}").into()),
                ..act
            });
        }
    }

    /// A connection is closed for a reason that somebody may ask after. Call it while its peer is known.
    pub(super) fn witness_close(&mut self, key: Key, close: Close) {
        // Silence is the network's doing, a restart the operator's, the wrong kind of message a client's mistake.
        if matches!(close, close::SILENT | close::RESTARTING | close::WRONG_KIND) {
            return;
        }
        if let Some(act) = self.act(Kind::Evict, key, None) {
            self.audit.record(Act {
                status: close.code,
                why: Some(close.reason.into()),
                ..act
            });
        }
    }
}
