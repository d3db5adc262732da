//! The upgrade: bytes become a request, a request a vehicle, a dashboard or a refusal.

use std::sync::Arc;

use longhaul_codec::{Role, Welcome};
use longhaul_filter_engine::{FleetId, VehicleIndex};

use super::{
    Core,
    clock::Now,
    connection::{Dashboard, PartialRequest, Peer, holder, place},
    dialogue::Speaker,
    grants::GrantError,
    ring::Key,
};
use crate::{
    limits::{RETRY_FULL_IDENTITY_S, RETRY_FULL_REGISTRY_S},
    session::{
        admission::{Admission, Admitted},
        origin,
        token::Role as TokenRole,
    },
    transport::PeerNames,
    websocket::{
        Refusal,
        upgrade::{self, UpgradeLimits},
    },
};

/// What a client may send behind its upgrade request before it is answered, in bytes.
pub(super) const MAY_FOLLOW_BYTES: usize = 8_192;

impl Core {
    /// Bytes of a connection that has not completed its upgrade.
    pub(super) fn handshake(&mut self, key: Key, bytes: &mut [u8], now: Now) {
        let limits = UpgradeLimits {
            header_bytes_max: self.config.limits.header_bytes_max,
            headers_max: upgrade::HEADERS_MAX,
        };
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Peer::Handshake(held) = &mut connection.peer else {
            return;
        };
        let mut joined = held.take().map(|mut held| {
            held.bytes.extend_from_slice(bytes);
            held
        });
        if self.upgrades_left == 0 {
            return self.wait_for_turn(key, joined.unwrap_or_else(|| PartialRequest::of(bytes)));
        }
        let request = joined
            .as_deref()
            .map_or(&*bytes, |held| held.bytes.as_slice());
        match upgrade::parse_request(request, &limits) {
            Ok(None) => *held = Some(joined.unwrap_or_else(|| PartialRequest::of(bytes))),
            Err(refusal) => self.refuse(key, &refusal),
            Ok(Some((request, consumed))) => {
                self.upgrades_left -= 1;
                // Asked before the token is looked at: a client that is gone by now is not worth that, and could not be
                // held to account.
                let Some(address) = self.peer_of(key) else {
                    return;
                };
                let verifier = self.trust.verifier();
                let admission = Admission {
                    verifier: &verifier,
                    unix_s: now.unix_ms / 1_000,
                    echo: self.config.echo,
                };
                let decided = origin::admit(request.headers(), &self.config.origins)
                    .and_then(|()| admission.decide(&request))
                    .and_then(|admitted| self.check_certificate(key, admitted));
                let mut admitted = match decided {
                    Ok(admitted) => admitted,
                    Err(refusal) => return self.refuse(key, &refusal),
                };
                if let Some(identity) = &admitted.identity
                    && self.is_revoked(identity)
                {
                    let refusal =
                        Refusal::unauthorized("the token has been revoked; ask for a new one");
                    return self.refuse_as(key, &refusal, Some(identity));
                }
                match self.admit(key, &mut admitted, now) {
                    Err(refusal) => self.refuse_as(key, &refusal, admitted.identity.as_ref()),
                    Ok(speaker) => {
                        if self.flow(key).is_break() {
                            // Its last grant has ended already: nothing that it says is heard.
                            return;
                        }
                        self.penalties.came_in(address, now.mono_ms);
                        // A client may not speak before the 101, but nothing is gained by being strict.
                        let rest = match &mut joined {
                            Some(joined) => &mut joined.bytes[consumed..],
                            None => &mut bytes[consumed..],
                        };
                        if !rest.is_empty() {
                            self.frames_behind(key, speaker, rest, now);
                        }
                    }
                }
            }
        }
    }

    /// A client with a certificate is whom the certificate names, too.
    fn check_certificate(&mut self, key: Key, admitted: Admitted) -> Result<Admitted, Refusal> {
        let (names, policy) = self.sessions.take_names(key);
        if let Some(identity) = &admitted.identity {
            let vehicle = identity.role == TokenRole::Vehicle;
            let unix_s = self.now.unix_ms / 1_000;
            PeerNames::check(names.as_ref(), policy, vehicle, &identity.subject, unix_s)
                .map_err(|wrong| Refusal::unauthorized(wrong.to_string()))?;
        }
        Ok(admitted)
    }

    /// Keeps what a client has sent until a tick has room for it, unread: it is parsed once.
    fn wait_for_turn(&mut self, key: Key, mut waiting: Box<PartialRequest>) {
        if waiting.bytes.len() > self.config.limits.header_bytes_max + MAY_FOLLOW_BYTES {
            // It goes on talking while it waits for an answer: as much as this is no client's way.
            let refusal = Refusal::new(
                http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "Wait for the answer to your upgrade request before you send messages.",
            );
            return self.refuse(key, &refusal);
        }
        if !std::mem::replace(&mut waiting.queued, true) {
            self.upgrades.push_back(key);
        }
        if let Some(connection) = self.connections.get_mut(key) {
            connection.peer = Peer::Handshake(Some(waiting));
        }
    }

    /// Turns a handshake into a vehicle, a dashboard or an echo client, and greets it.
    fn admit(&mut self, key: Key, admitted: &mut Admitted, now: Now) -> Result<Speaker, Refusal> {
        let metrics = Arc::clone(&self.metrics);
        let unavailable = |error: GrantError| {
            match error {
                GrantError::Vehicles(_) => metrics.limit_hit_registry.inc(),
                GrantError::Groups(_) => metrics.limit_hit_groups.inc(),
            }
            Refusal::unavailable(error.to_string(), RETRY_FULL_REGISTRY_S)
        };
        let mut bounds = None;
        let (peer, speaker, expires_unix, greeting) = match &admitted.identity {
            None => {
                self.metrics.connections_open_echo.add(1);
                (Peer::Echo(0), Speaker::Echo, None, None)
            }
            Some(identity) => {
                let fleet = self
                    .fleet
                    .registry
                    .fleet(&identity.fleet)
                    .map_err(|error| unavailable(error.into()))?;
                let (peer, speaker, vehicle) = match identity.role {
                    TokenRole::Vehicle => {
                        let vehicle = self
                            .fleet
                            .registry
                            .vehicle(fleet, &identity.subject)
                            .map_err(|error| unavailable(error.into()))?;
                        self.join_groups(fleet, vehicle, identity)
                            .map_err(|error| unavailable(error.into()))?;
                        self.metrics.connections_open_vehicle.add(1);
                        self.take_over(fleet, vehicle, key, now);
                        self.vehicle_came(key, vehicle);
                        (
                            Peer::Vehicle { fleet, vehicle },
                            Speaker::Vehicle(fleet, vehicle),
                            vehicle.0,
                        )
                    }
                    TokenRole::Dashboard => {
                        let counted = self
                            .census
                            .enter_identity(&identity.fleet, &identity.subject)
                            .ok_or_else(|| self.one_too_many())?;
                        let (may, entries) =
                            self.access_of(key, fleet, identity).map_err(|error| {
                                self.census.leave_identity(counted);
                                unavailable(error)
                            })?;
                        bounds = entries;
                        self.metrics.connections_open_dashboard.add(1);
                        self.user_came(key, fleet, &identity.subject);
                        let dashboard = Dashboard {
                            may,
                            ..Dashboard::new(fleet, counted, &identity.subject)
                        };
                        (Peer::Dashboard(Box::new(dashboard)), Speaker::Dashboard, 0)
                    }
                };
                let welcome = Welcome {
                    role: match identity.role {
                        TokenRole::Vehicle => Role::Vehicle,
                        TokenRole::Dashboard => Role::Dashboard,
                    },
                    fleet: identity.fleet.clone(),
                    subject: identity.subject.clone(),
                    vehicle,
                    gateway_time_ms: now.unix_ms,
                    heartbeat_ms: self.config.connection.heartbeat_ms as u32,
                    message_bytes_max: self.config.limits.message_bytes_max as u32,
                    expires_ms: identity.expires_unix.saturating_mul(1_000),
                    node: Some(self.config.node.to_string()),
                    epoch: self.epoch_to_tell(),
                    event_window: match identity.role {
                        TokenRole::Vehicle => self.config.limits.event_window,
                        TokenRole::Dashboard => self.config.limits.events_in_flight_max,
                    },
                };
                let expires_unix = Some(identity.expires_unix);
                (peer, speaker, expires_unix, Some(welcome.into()))
            }
        };
        let Some(connection) = self.connections.get_mut(key) else {
            return Ok(speaker);
        };
        self.metrics.connections_open_handshake.sub(1);
        connection.peer = peer;
        connection.json = admitted.json;
        connection.active = now.stamp();
        let mut first = std::mem::take(&mut admitted.response);
        if let Some(welcome) = greeting {
            first.extend_from_slice(self.outbound.message(&welcome, admitted.json).bytes());
        }
        connection.enqueue(first.into());
        self.mark_flushable(key);
        if let Some(expires_unix) = expires_unix {
            self.token_in_force(key, expires_unix, now);
        }
        self.begin_access(key, bounds, now);
        if let Some(identity) = &admitted.identity
            && identity.role == TokenRole::Vehicle
        {
            self.bound_publishing(key, identity);
        }
        self.tell_latecomer(key);
        if let Some(identity) = &admitted.identity {
            self.keep_pass(key, identity);
            self.witness_connect(key, identity);
        }
        Ok(speaker)
    }

    /// A dashboard's user has too many connections.
    #[cold]
    fn one_too_many(&self) -> Refusal {
        self.metrics.limit_hit_identity.inc();
        Refusal::new(
            http::StatusCode::TOO_MANY_REQUESTS,
            "This user has as many connections as it may (limits.connections_per_identity_max).",
        )
        .retry_after(RETRY_FULL_IDENTITY_S)
    }

    /// This connection is the vehicle's own from now on; the one that was is closed, wherever it is.
    fn take_over(&mut self, fleet: FleetId, vehicle: VehicleIndex, key: Key, now: Now) {
        let me = holder(self.exchange.shard(), key);
        let connected = self.fleet.presence.connect(vehicle, me, now.unix_ms);
        if connected.changed {
            self.out.presence.mark(fleet, vehicle);
        }
        if let Some(previous) = connected.previous {
            let (shard, key) = place(previous);
            if shard == self.exchange.shard() {
                self.taken_over(key, vehicle);
            } else {
                self.out.taken_over.push((shard, key, vehicle));
            }
        }
    }
}
