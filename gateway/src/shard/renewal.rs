//! A fresh token in place of the one that a connection came with, and the word that one ends.

use longhaul_codec::{Ack, AckKind, ErrorCode, Message, TokenExpiring, wire};
use longhaul_filter_engine::{FleetId, VehicleIndex};

use super::{Core, clock::Now, connection::Peer, ring::Key};
use crate::{
    limits::RENEWALS_PER_MINUTE_MAX,
    session::{
        rejection::{Bound, Rejection},
        token::{Identity, Role},
    },
};

/// Who a connection is, as far as a fresh token must agree with it.
enum Bearer {
    Vehicle(FleetId, VehicleIndex),
    Dashboard(FleetId),
}

impl Core {
    /// A client presents a fresh token. A bad one leaves the old one in force.
    pub(super) fn authenticate(
        &mut self,
        key: Key,
        said: wire::Authenticate<'_>,
        now: Now,
    ) -> Result<(), Rejection> {
        self.metrics.messages_authenticate.inc();
        let request = said.request();
        let done = self
            .present(key, said, now)
            .and_then(|identity| self.renew(key, request, &identity, now));
        match &done {
            Ok(()) => {
                self.metrics.renewals.inc();
                let ack = Ack {
                    kind: AckKind::Authenticate,
                    id: request,
                    watching: 0,
                };
                self.answer(key, &Message::Ack(ack));
            }
            Err(_) => self.metrics.renewals_refused.inc(),
        }
        done
    }

    /// Whose token it is, if it may take the place of the one in force.
    fn present(
        &mut self,
        key: Key,
        said: wire::Authenticate<'_>,
        now: Now,
    ) -> Result<Identity, Rejection> {
        let request = said.request();
        let reject = |code, says: String| Rejection::new(code, request, says);
        let unix_s = now.unix_ms / 1_000;
        // Its signature costs what that of an upgrade does, so both draw on the same number for each tick.
        if self.upgrades_left == 0 {
            let says =
                "the gateway has many tokens to check at this moment: send it again in a second";
            return Err(reject(ErrorCode::LimitReached, says.to_owned()).over(Bound::Renewals));
        }
        let Some(connection) = self.connections.get_mut(key) else {
            return Err(reject(ErrorCode::Internal, String::new()));
        };
        if !connection.token.attempt(unix_s) {
            let says = format!(
                "more than {RENEWALS_PER_MINUTE_MAX} tokens in a minute: come back with one in the next"
            );
            return Err(reject(ErrorCode::LimitReached, says).over(Bound::Renewals));
        }
        let bearer = match &connection.peer {
            Peer::Vehicle { fleet, vehicle } => Bearer::Vehicle(*fleet, *vehicle),
            Peer::Dashboard(dashboard) => Bearer::Dashboard(dashboard.fleet),
            Peer::Preface(_) | Peer::Handshake(_) | Peer::Echo(_) | Peer::Nobody => {
                return Err(reject(ErrorCode::NotAllowed, String::new()));
            }
        };
        self.upgrades_left -= 1;
        let (token, bytes_max) = (said.token(), self.config.limits.header_bytes_max);
        if token.len() > bytes_max {
            let says = format!(
                "the token has {} bytes, the limit is {bytes_max} (limits.header_bytes_max)",
                token.len()
            );
            return Err(reject(ErrorCode::TooLarge, says));
        }
        let identity = self
            .trust
            .verifier()
            .verify(token, unix_s)
            .map_err(|error| {
                reject(
                    ErrorCode::NotAllowed,
                    format!("{error}; the old token stays in force"),
                )
            })?;
        if !self.is_same(key, &bearer, &identity) {
            let says = "the token is of another subject, fleet or role than this connection: connect anew with it";
            return Err(reject(ErrorCode::WrongIdentity, says.to_owned()));
        }
        if self.is_revoked(&identity) {
            let says = "the token has been revoked; the old one stays in force";
            return Err(reject(ErrorCode::NotAllowed, says.to_owned()));
        }
        Ok(identity)
    }

    fn is_same(&mut self, key: Key, bearer: &Bearer, identity: &Identity) -> bool {
        let registry = &self.fleet.registry;
        let fleet_is =
            |fleet: FleetId| registry.fleet_name(fleet).as_deref() == Some(identity.fleet.as_str());
        match bearer {
            Bearer::Vehicle(fleet, vehicle) => {
                identity.role == Role::Vehicle
                    && fleet_is(*fleet)
                    && registry.is_called(*vehicle, &identity.subject)
            }
            Bearer::Dashboard(fleet) => {
                identity.role == Role::Dashboard
                    && fleet_is(*fleet)
                    && self
                        .connections
                        .get_mut(key)
                        .and_then(|connection| connection.dashboard_mut())
                        .is_some_and(|dashboard| *dashboard.user == *identity.subject)
            }
        }
    }

    /// What a fresh token changes: what its peer may see and do, and when the connection ends.
    fn renew(
        &mut self,
        key: Key,
        request: u64,
        identity: &Identity,
        now: Now,
    ) -> Result<(), Rejection> {
        self.apply_grants(key, request, identity, now)?;
        self.keep_pass(key, identity);
        self.witness_renewal(key, identity);
        self.token_in_force(key, identity.expires_unix, now);
        Ok(())
    }

    /// Says once that the token ends soon.
    pub(super) fn warn_of_end(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.token.set_warned(true);
        let expires_s = u64::from(connection.expires_s).saturating_sub(self.config.leeway_s);
        self.metrics.expiry_warnings.inc();
        let expires_ms = expires_s * 1_000;
        self.answer(key, &Message::TokenExpiring(TokenExpiring { expires_ms }));
    }
}
