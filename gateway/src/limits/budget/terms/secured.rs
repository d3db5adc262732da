//! What TLS holds.

use super::{NOTHING, Sheet, size};
use crate::{
    limits::budget::Part,
    transport::{ClientCertificates, Session, session},
};

impl Sheet<'_> {
    /// TLS, where connections have it.
    pub(super) fn secured(&mut self) {
        if !self.config.tls.is_on() {
            return;
        }
        let connections = self.load.connections;
        let session = size(session::SESSION_BYTES + size_of::<Option<Box<Session>>>());
        let at_most = if self.config.tls.tls12
            || self.config.tls.client_certificates != ClientCertificates::Off
        {
            // A session that stays with rustls, or a client's certificates, which stay with their session.
            size(session::HANDSHAKE_STATE_BYTES)
        } else {
            session
        };
        self.add(
            Part::Connections,
            "TLS sessions",
            (connections, session),
            (connections, at_most),
            "a connection's traffic keys, and what derives their successors",
        );
        self.add(
            Part::Connections,
            "TLS records in pieces",
            NOTHING,
            (connections, size(session::RECORD_BYTES_MAX)),
            "if everybody begins a record of 16 KiB and does not end it",
        );
        let handshakes = self
            .config
            .limits
            .handshakes_per_shard_max
            .saturating_mul(self.load.shards)
            .min(connections);
        self.add(
            Part::UnderWay,
            "TLS handshakes",
            NOTHING,
            (
                handshakes,
                size(session::HANDSHAKE_BYTES_MAX + session::HANDSHAKE_STATE_BYTES),
            ),
            "limits.handshakes_per_shard_max: what clients have sent so far, and the state of each",
        );
    }
}
