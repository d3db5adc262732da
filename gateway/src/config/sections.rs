//! The sections of the configuration. A field's doc comment is its comment in the printed file; the line
//! `Allowed:` repeats the rule beside it, and a test holds the two together.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::PathBuf;

use confique::Config;
use ipnet::IpNet;
use serde::Deserialize;

use crate::limits::SHARDS_MAX;

use super::rules::{
    balancers, named_path, networks, origins, power_of_two_within, short_text, websocket_url,
    within,
};

/// Upper bound of `server.shards`.
pub const SHARDS_HARD_MAX: u64 = SHARDS_MAX as u64;
/// How many keys may be configured at once: every key of a token's algorithm may have to be tried.
pub const KEYS_HARD_MAX: usize = 16;

/// The data plane: the sockets of vehicles and dashboards.
#[derive(Debug, Clone, PartialEq, Config)]
#[config(layer_attr(serde(deny_unknown_fields)))]
pub struct Server {
    /// Address and port that vehicles and dashboards connect to.
    #[config(env = "LONGHAUL_LISTEN", default = "0.0.0.0:9400")]
    pub listen: SocketAddr,

    /// How many shards (threads with an io_uring of their own) serve connections. 0: one per core.
    /// Allowed: 0 to 64.
    #[config(env = "LONGHAUL_SHARDS", default = 0, validate = within::<0, SHARDS_HARD_MAX>)]
    pub shards: u16,

    /// Pin each shard to a core of its own. Turn it off where the machine is shared.
    #[config(default = true)]
    pub pin_cores: bool,

    /// Length of a tick in microseconds while there is traffic. It is also the latency that ticking adds:
    /// a longer tick costs less CPU per message. 0: no pacing.
    /// Allowed: 0 to 100000.
    #[config(default = 1_000, validate = within::<0, 100_000>)]
    pub pace_us: u32,

    /// The longest pause in microseconds after a tick that sent many frames to dashboards that had one a moment ago.
    /// Updates gather in it, so that under wide fan-out frames grow fuller instead of more; the pause is as long as those
    /// sends took. 0: none, which is the least latency at the most CPU.
    /// Allowed: 0 to 100000.
    #[config(default = 4_000, validate = within::<0, 100_000>)]
    pub gather_us_max: u32,

    /// How many connections the kernel queues per shard until they are accepted. Larger values survive a larger
    /// storm of reconnects; the kernel caps it at net.core.somaxconn.
    /// Allowed: 1 to 65535.
    #[config(default = 4_096, validate = within::<1, 65_535>)]
    pub backlog: u32,

    /// Name of this node, told to clients and shown in logs. Left out: the host's name.
    #[config(env = "LONGHAUL_NODE", validate = short_text)]
    pub node: Option<String>,

    /// Load balancers in front: connections from these networks must begin with a PROXY protocol header, version 2, which
    /// says whom they are for. Connections from elsewhere are served as they are, so let only the balancers reach this
    /// port. Up to 256 networks. For example:
    ///   proxy_protocol = { from = ["10.0.0.0/8", "::1/128"] }
    #[config(validate = balancers)]
    pub proxy_protocol: Option<ProxyProtocol>,

    /// Web pages that browsers may connect from, as scheme://host[:port], up to 256; a page from elsewhere gets 403.
    /// Empty: any. Clients that are no browsers send no Origin and are not asked.
    #[config(default = [], validate = origins)]
    pub origins: Vec<String>,
}

/// The load balancers that speak for their clients.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyProtocol {
    /// Where they are.
    pub from: Vec<IpNet>,
}

/// The penalty box: addresses whose connections misbehave are kept out for a while.
#[derive(Debug, Clone, PartialEq, Config)]
#[config(layer_attr(serde(deny_unknown_fields)))]
pub struct Abuse {
    /// Points that an address (IPv6: one /64) may gather; over it, its new connections are refused for a while. A refused
    /// token, a request that is none, or silence costs 5, broken frames or a rate far exceeded 10; points leak away within
    /// a minute. Each good connection from an address in the last days, up to 64, lets it have as many points more, so
    /// that one bad vehicle does not lock out a mobile network. 0: no penalty box.
    /// Allowed: 0 to 10000.
    #[config(default = 100, validate = within::<0, 10_000>)]
    pub points_max: u32,

    /// Milliseconds that an address is kept out the first time. Each further time doubles it.
    /// Allowed: 100 to 86400000.
    #[config(default = 10_000, validate = within::<100, 86_400_000>)]
    pub stay_ms_min: u64,

    /// Milliseconds that an address is kept out at most. After as long without an offence, it begins anew. At least
    /// stay_ms_min.
    /// Allowed: 100 to 86400000.
    #[config(default = 600_000, validate = within::<100, 86_400_000>)]
    pub stay_ms_max: u64,

    /// Networks that are never kept out, up to 256. This machine is one, because behind a proxy on it that does not speak
    /// the PROXY protocol everybody comes from there.
    #[config(default = ["127.0.0.0/8", "::1/128"], validate = networks)]
    pub exempt: Vec<IpNet>,
}

/// The receive buffers that all connections of a shard share. An idle connection holds none of them.
#[derive(Debug, Clone, PartialEq, Config)]
#[config(layer_attr(serde(deny_unknown_fields)))]
pub struct Receive {
    /// Buffers per shard, a power of two.
    /// Allowed: 16 to 32768.
    #[config(default = 1_024, validate = power_of_two_within::<16, 32_768>)]
    pub buffers: u32,

    /// Size of a buffer in bytes.
    /// Allowed: 256 to 65536.
    #[config(default = 4_096, validate = within::<256, 65_536>)]
    pub buffer_bytes: u32,

    /// Completions that a shard handles in one tick; what is left over waits for the next. Small values make
    /// messages pile up in the kernel, where one receive then takes several of a vehicle that sends often: less CPU
    /// per message, and up to connections / this value ticks of delay.
    /// Allowed: 16 to 65536.
    #[config(default = 8_192, validate = within::<16, 65_536>)]
    pub completions_per_tick_max: u32,
}

/// The life of one connection.
#[derive(Debug, Clone, PartialEq, Config)]
#[config(layer_attr(serde(deny_unknown_fields)))]
pub struct Connection {
    /// Milliseconds that a new connection has to complete its WebSocket upgrade.
    /// Allowed: 100 to 600000.
    #[config(default = 10_000, validate = within::<100, 600_000>)]
    pub handshake_timeout_ms: u64,

    /// A connection silent for this many milliseconds is sent a ping. Each has a moment of its own between half of
    /// this and all of it, so that pings are spread.
    /// Allowed: 1000 to 3600000.
    #[config(default = 30_000, validate = within::<1_000, 3_600_000>)]
    pub heartbeat_ms: u64,

    /// A connection silent for this many milliseconds is closed. Greater than heartbeat_ms.
    /// Allowed: 2000 to 86400000.
    #[config(default = 120_000, validate = within::<2_000, 86_400_000>)]
    pub dead_after_ms: u64,

    /// A connection silent for this many milliseconds gives back the kernel memory of its armed receive, until its
    /// next byte.
    /// Allowed: 1000 to 86400000.
    #[config(default = 60_000, validate = within::<1_000, 86_400_000>)]
    pub quiet_after_ms: u64,

    /// A vehicle that is connected and has sent no position for this many milliseconds is stale.
    /// Allowed: 1000 to 86400000.
    #[config(default = 60_000, validate = within::<1_000, 86_400_000>)]
    pub stale_after_ms: u64,

    /// A connection that takes none of the bytes that wait for it for this many milliseconds is closed as a slow
    /// consumer. It is looked at four times in that time, so it may take up to half as long again.
    /// Allowed: 100 to 600000.
    #[config(default = 10_000, validate = within::<100, 600_000>)]
    pub send_timeout_ms: u64,

    /// Milliseconds that a client has to complete a message that it has begun: a frame, or a fragmented message. Over it,
    /// it is closed. A message of message_bytes_max should get through a slow link in that time. It is looked at now and
    /// then, so it may take up to five seconds longer.
    /// Allowed: 1000 to 3600000.
    #[config(default = 60_000, validate = within::<1_000, 3_600_000>)]
    pub message_timeout_ms: u64,

    /// TCP_NOTSENT_LOWAT in bytes: how much unsent data the kernel may hold per connection. Small values keep stale
    /// positions out of the kernel.
    /// Allowed: 1024 to 16777216.
    #[config(default = 16_384, validate = within::<1_024, 16_777_216>)]
    pub notsent_lowat_bytes: u32,
}

/// How this node goes away: on SIGTERM, or when the control plane is told to drain.
#[derive(Debug, Clone, PartialEq, Config)]
#[config(layer_attr(serde(deny_unknown_fields)))]
pub struct Drain {
    /// Milliseconds in which this node still accepts connections but says on /readyz that it is not ready, so that
    /// load balancers and DNS take notice.
    /// Allowed: 0 to 600000.
    #[config(default = 5_000, validate = within::<0, 600_000>)]
    pub grace_ms: u64,

    /// Milliseconds over which the connections are closed after that, dashboards first, at an even pace.
    /// Allowed: 0 to 3600000.
    #[config(default = 30_000, validate = within::<0, 3_600_000>)]
    pub window_ms: u64,

    /// Where clients are sent instead: a URL that begins with ws:// or wss://. Left out: back to where they came from.
    #[config(validate = websocket_url)]
    pub alternative: Option<String>,
}

/// Who may connect. Every connection needs a token (JWT) signed with one of these keys.
#[derive(Debug, Clone, PartialEq, Config)]
#[config(layer_attr(serde(deny_unknown_fields)))]
pub struct Auth {
    /// The keys that tokens are checked with, up to 16. `algorithm` is "EdDSA" (file: an Ed25519 public key in PEM),
    /// "ES256" (a public key on the curve P-256 in PEM), "RS256" (an RSA public key of 2048 to 8192 bits in PEM) or
    /// "HS256" (a secret of at least 32 bytes; a line break at its end does not count). A token that names a
    /// `kid` is checked with the key of that kid. A relative file name starts at this file's folder. The files are read
    /// again on reload. For example:
    ///   keys = [{ algorithm = "EdDSA", file = "fleet.pub.pem", kid = "2026" }]
    #[config(default = [])]
    pub keys: Vec<KeySource>,

    /// Sets of keys (JWKS, RFC 7517), up to 8: a `file`, or a `url` of an identity provider, which is fetched every
    /// `refresh_s` seconds (default 300; 10 to 86400), and early if a token names a `kid` that is not known. When it
    /// cannot be fetched, the keys of the last time are good for `stale_max_s` more seconds (default 86400; 0 to
    /// 31536000). `cache`: a file that the last good set is kept in, for a start while the provider is away. `ca`: a
    /// file of certificates (PEM) that are trusted beside the system's. http:// is for this machine only. For example:
    ///   key_sets = [{ file = "keys.json" }, { url = "https://idp.example/jwks.json", cache = "idp-keys.json" }]
    #[config(default = [])]
    pub key_sets: Vec<KeySetSource>,

    /// The algorithms that keys may have, such as ["EdDSA", "ES256"]. A key in `keys` of another one is an error, one in
    /// a set is left out. Empty: all four, of which HS256 only from files of this machine. A token never chooses: each key
    /// has one algorithm. The key of --dev is exempt.
    #[config(default = [])]
    pub algorithms: Vec<KeyAlgorithm>,

    /// The longest that a token may last, from its `iat` to its `exp`, in seconds; one without `iat` is refused then.
    /// 0: no limit.
    /// Allowed: 0 to 315360000.
    #[config(default = 0, validate = within::<0, 315_360_000>)]
    pub lifetime_max_s: u64,

    /// How many seconds a token's times (exp, nbf) may be off, for clocks that disagree.
    /// Allowed: 0 to 600.
    #[config(default = 30, validate = within::<0, 600>)]
    pub leeway_s: u64,

    /// How many seconds before its token ends a connection is told, so that it can present a fresh one; of a token that
    /// does not last ten times as long: a tenth of what is left. 0: it is not told.
    /// Allowed: 0 to 3600.
    #[config(default = 60, validate = within::<0, 3_600>)]
    pub warn_before_s: u16,

    /// If set, a token's `iss` claim must be this.
    #[config(validate = short_text)]
    pub issuer: Option<String>,

    /// If set, a token's `aud` claim must be or contain this.
    #[config(validate = short_text)]
    pub audience: Option<String>,

    /// A file of tokens that are not good any more before their time, which is watched: who is in it is not let in, and is
    /// closed within a second. It must be there, and may be empty; replace it by renaming another one to it. What is
    /// revoked over the control plane is kept in the state folder and not here. One JSON object a line, such as
    ///   {"fleet": "north", "subject": "truck-7", "issued_before": 1767225600, "reason": "stolen"}
    /// docs/operations.md has the others. A relative name starts at this file's folder.
    #[config(env = "LONGHAUL_REVOCATIONS", validate = named_path)]
    pub revocations: Option<PathBuf>,
}

/// Where one key comes from.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySource {
    /// What the key signs with; a token that says otherwise is refused.
    pub algorithm: KeyAlgorithm,
    /// The file that holds the key.
    pub file: PathBuf,
    /// The `kid` of the tokens that this key is for.
    pub kid: Option<String>,
}

/// Where a set of keys comes from: a file or a URL.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySetSource {
    /// A file with a JSON Web Key Set.
    pub file: Option<PathBuf>,
    /// Where one is fetched from.
    pub url: Option<String>,
    /// How often, in seconds.
    pub refresh_s: Option<u64>,
    /// For how long its keys are good when it cannot be fetched, in seconds.
    pub stale_max_s: Option<u64>,
    /// The file that the last good set is kept in.
    pub cache: Option<PathBuf>,
    /// Certificates that are trusted beside the system's.
    pub ca: Option<PathBuf>,
}

/// The signature algorithms that tokens may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
pub enum KeyAlgorithm {
    /// HMAC with SHA-256: one secret both signs and checks.
    #[value(name = "HS256", alias = "hs256")]
    #[serde(rename = "HS256")]
    Hs256,
    /// Ed25519: the issuer keeps the private key, the gateway needs the public one only.
    #[value(name = "EdDSA", alias = "eddsa")]
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// ECDSA on the curve P-256 with SHA-256.
    #[value(name = "ES256", alias = "es256")]
    #[serde(rename = "ES256")]
    Es256,
    /// RSA (PKCS #1 v1.5) with SHA-256.
    #[value(name = "RS256", alias = "rs256")]
    #[serde(rename = "RS256")]
    Rs256,
}

/// The control plane: health, readiness and metrics over HTTP.
#[derive(Debug, Clone, PartialEq, Config)]
#[config(layer_attr(serde(deny_unknown_fields)))]
pub struct Control {
    /// Address and port of the control plane.
    #[config(env = "LONGHAUL_CONTROL_LISTEN", default = "127.0.0.1:9401")]
    pub listen: SocketAddr,

    /// Allow an address that other machines can reach. Health and metrics ask nobody for a token, and the connection is
    /// not encrypted, so keep it behind a firewall then.
    #[config(default = false)]
    pub allow_remote: bool,

    /// Ask for an operator's token for /drain as well, not for calls below /admin only. It is always asked for where
    /// other machines can reach the control plane. Without it, whoever is on this machine can drain this node.
    #[config(default = false)]
    pub require_token: bool,
}

/// What is kept across restarts: each vehicle's last position, and since when it is not connected.
#[derive(Debug, Clone, PartialEq, Config)]
#[config(layer_attr(serde(deny_unknown_fields)))]
pub struct State {
    /// The folder for it; it is made if there is none. Two processes of one node on one machine, during a rolling
    /// restart, share it. A relative name starts at this file's folder. Left out: nothing is kept across restarts.
    #[config(env = "LONGHAUL_STATE", validate = named_path)]
    pub directory: Option<PathBuf>,

    /// How often a snapshot is written, in milliseconds. It is also the most that is lost when the process is killed.
    /// Allowed: 1000 to 3600000.
    #[config(default = 30_000, validate = within::<1_000, 3_600_000>)]
    pub snapshot_every_ms: u64,
}

/// Events that must arrive (qos 1), and commands: kept on disk until they are old.
#[derive(Debug, Clone, PartialEq, Config)]
#[config(layer_attr(serde(deny_unknown_fields)))]
pub struct Events {
    /// The folder of the event log; it is made if there is none. One process has it at a time. A relative name starts at
    /// this file's folder. Left out: events with qos 1 and commands are refused, those with qos 0 are passed on.
    #[config(env = "LONGHAUL_EVENTS", validate = named_path)]
    pub directory: Option<PathBuf>,

    /// How long an event is kept, in milliseconds.
    /// Allowed: 60000 to 31536000000.
    #[config(default = 604_800_000, validate = within::<60_000, 31_536_000_000>)]
    pub retain_ms: u64,

    /// How many bytes of events are kept of each fleet; beyond, the oldest go.
    /// Allowed: 1048576 to 1099511627776.
    #[config(default = 1_073_741_824, validate = within::<1_048_576, 1_099_511_627_776>)]
    pub retain_bytes: u64,

    /// Free bytes of the disk below which events are refused, so that there is room for what was taken, for removing
    /// what is old, and for everything else on this disk.
    /// Allowed: 0 to 1099511627776.
    #[config(default = 268_435_456, validate = within::<0, 1_099_511_627_776>)]
    pub free_bytes_min: u64,

    /// How long a dashboard may take to acknowledge an event with qos 1, in milliseconds, before it is sent again.
    /// Allowed: 1000 to 3600000.
    #[config(default = 30_000, validate = within::<1_000, 3_600_000>)]
    pub ack_wait_ms: u64,

    /// How long the cursor of a durable consumer is kept that nobody uses, in milliseconds.
    /// Allowed: 60000 to 31536000000.
    #[config(default = 1_209_600_000, validate = within::<60_000, 31_536_000_000>)]
    pub consumer_expires_ms: u64,
}

/// The audit log: who got in, who did not and why, and who did what.
#[derive(Debug, Clone, PartialEq, Config)]
#[config(layer_attr(serde(deny_unknown_fields)))]
pub struct Audit {
    /// The file, of one JSON object a line and of mode 0600; it is made if there is none. SIGHUP opens it anew, and so
    /// does moving it away. A relative name starts at this file's folder. Left out: there is no audit log.
    #[config(env = "LONGHAUL_AUDIT", validate = named_path)]
    pub file: Option<PathBuf>,

    /// A file of so many bytes is set aside under its name and the time, and a new one is begun.
    /// Allowed: 4096 to 1099511627776.
    #[config(default = 67_108_864, validate = within::<4_096, 1_099_511_627_776>)]
    pub rotate_bytes: u64,

    /// So is a file that was begun so many seconds ago. 0: only its size counts.
    /// Allowed: 0 to 31536000.
    #[config(default = 86_400, validate = within::<0, 31_536_000>)]
    pub rotate_after_s: u64,

    /// Files that were set aside and are kept; the oldest beyond go.
    /// Allowed: 0 to 10000.
    #[config(default = 14, validate = within::<0, 10_000>)]
    pub keep: u32,
}

/// What is written to standard error while running.
#[derive(Debug, Clone, PartialEq, Config)]
#[config(layer_attr(serde(deny_unknown_fields)))]
pub struct Log {
    /// A level (error, warn, info, debug, trace), or levels per module such as "info,longhaul::control=debug".
    #[config(env = "LONGHAUL_LOG", default = "info")]
    pub filter: String,

    /// "text", "json", or "auto": text on a terminal and JSON otherwise.
    #[config(env = "LONGHAUL_LOG_FORMAT", default = "auto")]
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
