//! What TLS costs.

use std::time::Duration;

use serde::Serialize;

use crate::idle::IdleReport;
use crate::out::out;

/// So many handshakes, and what they took.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    /// How many.
    pub handshakes: u64,
    /// The server's CPU time for each, in microseconds.
    pub cpu_us_each: f64,
    /// How many one core would make if it did nothing else.
    pub per_second_and_core: f64,
    /// How many there were in a second.
    pub per_second: f64,
}

impl Rate {
    /// From `cpu_us` of the server's CPU time over `time`.
    pub fn new(handshakes: u64, cpu_us: f64, time: Duration) -> Self {
        let each = cpu_us / handshakes.max(1) as f64;
        Self {
            handshakes,
            cpu_us_each: each,
            per_second_and_core: 1e6 / each.max(f64::MIN_POSITIVE),
            per_second: handshakes as f64 / time.as_secs_f64().max(f64::MIN_POSITIVE),
        }
    }
}

/// Handshakes of one kind. TLS 1.3, X25519 or what both prefer, a certificate with ECDSA P-256.
#[derive(Debug, Serialize)]
pub struct Handshakes {
    /// `full` or `resumed`.
    pub kind: &'static str,
    /// Clients at the same time.
    pub clients: u16,
    /// The gateway, one shard.
    pub gateway: Rate,
    /// A thread that accepts and shakes hands with plain rustls.
    pub bare_socket: Rate,
    /// rustls without a socket.
    pub in_memory: Rate,
}

/// Idle connections.
#[derive(Debug, Serialize)]
pub struct Memory {
    /// Over TCP.
    pub plain: IdleReport,
    /// Over TLS.
    pub tls: IdleReport,
}

/// The result of `tls`.
#[derive(Debug, Serialize)]
pub struct TlsReport {
    command: &'static str,
    memory: Option<Memory>,
    /// Gateway bytes of an idle TLS connection, over the baseline after a warm-up.
    gateway_bytes_per_tls_connection: Option<f64>,
    /// Of these, what TLS adds.
    pub gateway_bytes_of_tls: Option<f64>,
    /// Of each kind.
    pub handshakes: Vec<Handshakes>,
}

impl TlsReport {
    /// Puts it together.
    pub fn new(memory: Option<Memory>, handshakes: Vec<Handshakes>) -> Self {
        let each = |idle: &IdleReport| idle.gateway_rss_bytes_per_connection;
        let secure = memory.as_ref().and_then(|memory| each(&memory.tls));
        let plain = memory.as_ref().and_then(|memory| each(&memory.plain));
        Self {
            command: "tls",
            gateway_bytes_per_tls_connection: secure,
            gateway_bytes_of_tls: secure.zip(plain).map(|(secure, plain)| secure - plain),
            memory,
            handshakes,
        }
    }

    /// Whether no connection failed or was dropped.
    pub fn is_whole(&self) -> bool {
        self.memory.as_ref().is_none_or(|memory| {
            [&memory.plain, &memory.tls]
                .iter()
                .all(|idle| idle.failed == 0 && idle.dropped == 0)
        })
    }

    /// For people.
    pub fn print(&self) {
        if let Some(Memory { plain, tls }) = &self.memory {
            out!("\nidle vehicles, gateway memory each");
            for (name, idle) in [("TCP", plain), ("TLS", tls)] {
                out!(
                    "  {name:<10} {:>7.0} bytes, of it heap {:>7.0}   ({} connections, {} failed, {} dropped)",
                    idle.gateway_rss_bytes_per_connection.unwrap_or(f64::NAN),
                    idle.gateway_rss_anon_bytes_per_connection
                        .unwrap_or(f64::NAN),
                    idle.connections,
                    idle.failed,
                    idle.dropped
                );
                for reason in &idle.reasons {
                    out!("  ! {reason}");
                }
            }
            out!(
                "  TLS adds   {:>7.0} bytes",
                self.gateway_bytes_of_tls.unwrap_or(f64::NAN)
            );
        }
        for handshakes in &self.handshakes {
            out!(
                "\n{} TLS 1.3 handshakes, ECDSA P-256, {} clients",
                handshakes.kind,
                handshakes.clients
            );
            for (name, rate) in [
                ("gateway", &handshakes.gateway),
                ("socket and rustls", &handshakes.bare_socket),
                ("rustls in memory", &handshakes.in_memory),
            ] {
                out!(
                    "  {name:<18} {:>7.1} µs of CPU each, {:>7.0} a second and core, {:.2} × rustls in memory ({} made)",
                    rate.cpu_us_each,
                    rate.per_second_and_core,
                    rate.cpu_us_each / handshakes.in_memory.cpu_us_each,
                    rate.handshakes
                );
            }
        }
    }
}
