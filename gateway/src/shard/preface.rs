//! What comes in front of a request where a load balancer passes connections on: for whom this one is. Only connections
//! from the balancers' addresses have such a phase; a table beside the slab keeps the real addresses of those alone.

use std::net::{IpAddr, Ipv6Addr};

use http::StatusCode;

use super::{
    Core,
    clock::Now,
    connection::{PartialRequest, Peer},
    ring::Key,
};
use crate::{
    session::penalty::Offence,
    transport::proxy::{self, ProxyError},
    websocket::Refusal,
};

/// Whom proxied connections are for, by slot. Empty where nothing is proxied.
#[derive(Debug, Default)]
pub struct Clients(Vec<Ipv6Addr>);

impl Clients {
    /// What a slot weighs, once connections are proxied.
    pub const SLOT_BYTES: usize = size_of::<Ipv6Addr>();

    fn set(&mut self, slot: u32, client: IpAddr) {
        let slot = slot as usize;
        if slot >= self.0.len() {
            self.0.resize(slot + 1, Ipv6Addr::UNSPECIFIED);
        }
        self.0[slot] = match client {
            IpAddr::V4(client) => client.to_ipv6_mapped(),
            IpAddr::V6(client) => client,
        };
    }

    /// The real address of a connection that was proxied.
    pub fn get(&self, slot: u32) -> Option<IpAddr> {
        let client = self.0.get(slot as usize)?;
        (!client.is_unspecified()).then(|| IpAddr::V6(*client).to_canonical())
    }

    /// A connection has ended.
    pub fn forget(&mut self, slot: u32) {
        if let Some(client) = self.0.get_mut(slot as usize) {
            *client = Ipv6Addr::UNSPECIFIED;
        }
    }
}

impl Core {
    /// Bytes of a load balancer's connection that has not said yet whom it is for. What is behind the header is the
    /// client's, and goes on as if it had come by itself.
    pub(super) fn preface(&mut self, key: Key, bytes: &mut [u8], now: Now) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Peer::Preface(held) = &mut connection.peer else {
            return;
        };
        let before = held.as_ref().map_or(0, |held| held.bytes.len());
        let outcome = match held {
            None => proxy::read(bytes),
            Some(held) => {
                held.bytes.extend_from_slice(bytes);
                proxy::read(&held.bytes)
            }
        };
        let preface = match outcome {
            Ok(None) => {
                // No more than the longest header is kept: `read` decides at that length.
                held.get_or_insert_with(|| PartialRequest::of(bytes));
                return;
            }
            Err(error) => return self.no_preface(key, &error),
            Ok(Some(preface)) => preface,
        };
        connection.peer = Peer::Handshake(None);
        self.metrics.proxied.inc();
        if let Some(client) = preface.client
            && let Err(refusal) = self.is_for(key, client)
        {
            return self.refuse(key, &refusal);
        }
        let rest = &mut bytes[preface.length - before..];
        if !rest.is_empty() {
            self.unveiled(key, rest, now);
        }
    }

    /// A proxied connection is its client's from now on: the bounds that hold for addresses hold for the real one.
    fn is_for(&mut self, key: Key, client: IpAddr) -> Result<(), Refusal> {
        self.clients.set(key.slot, client);
        if let Some(refusal) = self.is_kept_out(client) {
            return Err(refusal);
        }
        self.count_address(key, client)
    }

    fn no_preface(&mut self, key: Key, error: &ProxyError) {
        self.offend(key, Offence::Proxy);
        let says = format!("No client can be told behind this load balancer: {error}.");
        self.refuse(key, &Refusal::new(StatusCode::BAD_REQUEST, says));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_an_address_until_its_connection_ends() {
        let mut clients = Clients::default();
        let four: IpAddr = "192.0.2.1".parse().expect("an address");
        let six: IpAddr = "2001:db8::1".parse().expect("an address");
        assert_eq!(clients.get(7), None);
        clients.set(7, four);
        clients.set(3, six);
        assert_eq!(
            (clients.get(7), clients.get(3), clients.get(5)),
            (Some(four), Some(six), None)
        );
        clients.forget(7);
        clients.forget(100);
        assert_eq!((clients.get(7), clients.get(3)), (None, Some(six)));
    }
}
