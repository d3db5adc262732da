//! The configuration: one documented struct tree. Its doc comments are the comments of the printed file
//! (`longhaul config`), its defaults the values there, its rules what a value must satisfy.
//!
//! Precedence: flag, then environment, then file, then default. An unknown key is refused by name.
//!
//! - `config/sections.rs`: the sections and their fields
//! - `config/keys.rs`: what must hold between the keys, and where their files are
//! - `config/rules.rs`: what a single value must satisfy
//! - `config/tls.rs`: the section `[tls]`
//! - `config/template.rs`: the printed file
//!
//! The derive is `confique`: of the crates that turn doc comments into a commented file it is the only one that also
//! has layers, environment variables and per-field rules, and it leaves the TOML parser, whose errors show the line,
//! to us.
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use confique::{Config as _, Layer as _};

use crate::limits::{BURST_SECONDS_MAX, FIX_BYTES, Limits, MESSAGE_OVERHEAD_BYTES};

mod keys;
pub mod rules;
mod sections;
mod template;
mod tls;

pub use sections::{
    Abuse, Audit, Auth, Connection, Control, Drain, Events, KEYS_HARD_MAX, KeyAlgorithm,
    KeySetSource, KeySource, Log, LogFormat, Receive, SHARDS_HARD_MAX, Server, State,
};
pub use template::template;
pub use tls::{CertificateSource, Tls};

/// Longhaul's configuration. Print this with `longhaul config`, start with it by `longhaul run --config FILE`.
/// Every value below is the default: a file needs only the lines that differ.
#[derive(Debug, Clone, PartialEq, confique::Config)]
#[config(layer_attr(serde(deny_unknown_fields)))]
pub struct Config {
    /// The data plane: the sockets of vehicles and dashboards.
    #[config(nested)]
    pub server: Server,
    /// The receive buffers that all connections of a shard share. An idle connection holds none of them.
    #[config(nested)]
    pub receive: Receive,
    /// The life of one connection.
    #[config(nested)]
    pub connection: Connection,
    /// How this node goes away: on SIGTERM, or when the control plane is told to drain.
    #[config(nested)]
    pub drain: Drain,
    /// Bounds. What goes over one is refused or closed, and the peer is told why where that is possible.
    #[config(nested)]
    pub limits: Limits,
    /// The penalty box: addresses whose connections misbehave are kept out for a while.
    #[config(nested)]
    pub abuse: Abuse,
    /// Who may connect. Every connection needs a token (JWT) signed with one of these keys.
    #[config(nested)]
    pub auth: Auth,
    /// TLS for vehicles and dashboards.
    #[config(nested)]
    pub tls: Tls,
    /// The control plane: health, readiness and metrics over HTTP.
    #[config(nested)]
    pub control: Control,
    /// What is kept across restarts: each vehicle's last position, and since when it is not connected.
    #[config(nested)]
    pub state: State,
    /// Events that must arrive (qos 1), and commands: kept on disk until they are old.
    #[config(nested)]
    pub events: Events,
    /// The audit log: who got in, who did not and why, and who did what.
    #[config(nested)]
    pub audit: Audit,
    /// What is written to standard error while running.
    #[config(nested)]
    pub log: Log,
}

type Layer = <Config as confique::Config>::Layer;

/// Why there is no configuration. Every message names the file, variable or flag to change.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration file {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file has a syntax error, an unknown key, or a value that is not allowed; the text shows the line.
    #[error("in the configuration file {path}:\n{reason}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, and what is wrong with it.
        reason: String,
    },
    /// An environment variable has a value that is not allowed.
    #[error("in the environment: {0}")]
    Environment(String),
    /// A flag has a value that is not allowed.
    #[error("in the flags: {0}")]
    Flag(String),
    /// Two settings contradict each other.
    #[error("{0}")]
    Relation(String),
}

/// Settings that flags gave, kept as TOML so that they pass the same rules as a file's.
#[derive(Debug, Default, Clone)]
pub struct Overrides(toml::Table);

impl Overrides {
    /// Sets `section.key`; a later call wins.
    pub fn set(&mut self, section: &str, key: &str, value: impl Into<toml::Value>) {
        let entry = self
            .0
            .entry(section)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if let Some(table) = entry.as_table_mut() {
            table.insert(key.to_owned(), value.into());
        }
    }
}

impl Config {
    /// Reads the layers, highest precedence first: flags, environment, file, what development mode changes, defaults.
    /// Then checks what must hold between settings.
    ///
    /// # Errors
    /// The first layer that could not be read, or the first relation that does not hold.
    pub fn load(file: Option<&Path>, flags: Overrides, dev: bool) -> Result<Self, ConfigError> {
        let flags: Layer = flags.0.try_into().map_err(|error: toml::de::Error| {
            ConfigError::Flag(error.to_string().trim_end().replace('\n', " "))
        })?;
        let environment =
            Layer::from_env().map_err(|error| ConfigError::Environment(with_causes(&error)))?;
        let mut layers = flags.with_fallback(environment);
        if let Some(path) = file {
            layers = layers.with_fallback(read_file(path)?);
        }
        if dev {
            layers = layers.with_fallback(development()?);
        }
        let mut config = Self::complete(layers, dev)?;
        config.auth.locate_keys(file);
        if let Some(folder) = file.and_then(Path::parent) {
            config.tls.locate(folder);
        }
        locate(&mut config.state.directory, file);
        locate(&mut config.events.directory, file);
        locate(&mut config.audit.file, file);
        locate(&mut config.auth.revocations, file);
        Ok(config)
    }

    /// What the text of a file gives by itself, without environment, flags and the file's place.
    ///
    /// # Errors
    /// As [`Config::load`].
    #[cfg(test)]
    pub fn from_text(text: &str) -> Result<Self, ConfigError> {
        let layer = toml::from_str(text).map_err(|error| ConfigError::File {
            path: PathBuf::new(),
            reason: error.to_string(),
        })?;
        Self::complete(layer, false)
    }

    /// Fills in the defaults, and checks what must hold between settings.
    fn complete(layers: Layer, dev: bool) -> Result<Self, ConfigError> {
        let config = Self::from_layer(layers.with_fallback(Layer::default_values()))
            .map_err(|error| ConfigError::Relation(with_causes(&error)))?;
        config.check(dev)?;
        Ok(config)
    }

    /// The defaults, with no file, environment or flag.
    pub fn defaults() -> Result<Self, ConfigError> {
        Self::from_layer(Layer::default_values())
            .map_err(|error| ConfigError::Relation(with_causes(&error)))
    }

    /// What this node calls itself: `server.node`, else the host's name.
    pub fn node_name(&self) -> String {
        match &self.server.node {
            Some(name) => name.clone(),
            None => rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
        }
    }

    /// Checks the relations between settings.
    fn check(&self, dev: bool) -> Result<(), ConfigError> {
        let fail = |message: String| Err(ConfigError::Relation(message));
        let Self {
            server,
            connection,
            limits,
            auth,
            control,
            abuse,
            ..
        } = self;

        if connection.dead_after_ms <= connection.heartbeat_ms {
            return fail(format!(
                "connection.dead_after_ms = {} must be greater than connection.heartbeat_ms = {}",
                connection.dead_after_ms, connection.heartbeat_ms
            ));
        }
        if abuse.stay_ms_max < abuse.stay_ms_min {
            return fail(format!(
                "abuse.stay_ms_max = {} must be at least abuse.stay_ms_min = {}",
                abuse.stay_ms_max, abuse.stay_ms_min
            ));
        }
        if limits.echo_message_bytes_max < limits.message_bytes_max {
            return fail(format!(
                "limits.echo_message_bytes_max = {} must be at least limits.message_bytes_max = {}",
                limits.echo_message_bytes_max, limits.message_bytes_max
            ));
        }
        if limits.echo_frames_per_message_max < limits.frames_per_message_max {
            return fail(format!(
                "limits.echo_frames_per_message_max = {} must be at least limits.frames_per_message_max = {}",
                limits.echo_frames_per_message_max, limits.frames_per_message_max
            ));
        }
        if limits.subscription_vehicles_max > limits.vehicles_max {
            return fail(format!(
                "limits.subscription_vehicles_max = {} must be at most limits.vehicles_max = {}",
                limits.subscription_vehicles_max, limits.vehicles_max
            ));
        }
        let batch_bytes = limits.position_batch_max as u64 * FIX_BYTES + MESSAGE_OVERHEAD_BYTES;
        if batch_bytes > limits.message_bytes_max as u64 {
            return fail(format!(
                "limits.position_batch_max = {} needs messages of {batch_bytes} bytes, but limits.message_bytes_max = {}",
                limits.position_batch_max, limits.message_bytes_max
            ));
        }
        let event_bytes = limits.event_payload_bytes_max as u64 + 2 * MESSAGE_OVERHEAD_BYTES;
        if event_bytes > limits.message_bytes_max as u64 {
            return fail(format!(
                "limits.event_payload_bytes_max = {} needs messages of {event_bytes} bytes, but limits.message_bytes_max = {}",
                limits.event_payload_bytes_max, limits.message_bytes_max
            ));
        }
        if limits.bytes_per_second_max != 0
            && (limits.bytes_burst as usize) < limits.message_bytes_max
        {
            return fail(format!(
                "limits.bytes_burst = {} must be at least limits.message_bytes_max = {}",
                limits.bytes_burst, limits.message_bytes_max
            ));
        }
        for (burst, rate, names) in [
            (
                limits.messages_burst,
                limits.messages_per_second_max,
                ["limits.messages_burst", "limits.messages_per_second_max"],
            ),
            (
                limits.bytes_burst,
                limits.bytes_per_second_max,
                ["limits.bytes_burst", "limits.bytes_per_second_max"],
            ),
        ] {
            if rate != 0 && u64::from(burst) > u64::from(rate) * BURST_SECONDS_MAX {
                return fail(format!(
                    "{} = {burst} must be at most {BURST_SECONDS_MAX} times {} = {rate}",
                    names[0], names[1]
                ));
            }
        }
        if auth.keys.len() > KEYS_HARD_MAX {
            return fail(format!(
                "auth.keys has {} keys, allowed: up to {KEYS_HARD_MAX}",
                auth.keys.len()
            ));
        }
        auth.check().or_else(fail)?;
        if let Err(wrong) = self.tls.check() {
            return fail(wrong);
        }
        if !control.allow_remote && !control.listen.ip().is_loopback() {
            return fail(format!(
                "control.listen = \"{}\" can be reached by other machines, and health and metrics ask for no token: \
                 use 127.0.0.1, or set control.allow_remote = true",
                control.listen
            ));
        }
        if control.listen.port() != 0 && control.listen == server.listen {
            return fail(format!(
                "control.listen and server.listen are both \"{}\"",
                server.listen
            ));
        }
        if dev && !server.listen.ip().is_loopback() {
            return fail(format!(
                "server.listen = \"{}\" can be reached by other machines, but --dev is for this machine only: \
                 use 127.0.0.1, or configure a key and run without --dev",
                server.listen
            ));
        }
        Ok(())
    }
}

/// A relative folder starts at the configuration file's folder.
fn locate(folder: &mut Option<PathBuf>, config_file: Option<&Path>) {
    if let (Some(base), Some(folder)) = (config_file.and_then(Path::parent), folder) {
        *folder = base.join(&folder);
    }
}

fn read_file(path: &Path) -> Result<Layer, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    toml::from_str(&text).map_err(|error| ConfigError::File {
        path: path.to_owned(),
        reason: error.to_string().trim_end().to_owned(),
    })
}

/// What `--dev` changes where nothing else was said: loopback only.
fn development() -> Result<Layer, ConfigError> {
    let mut dev = Overrides::default();
    let port = Config::defaults()?.server.listen.port();
    dev.set(
        "server",
        "listen",
        format!("{}:{port}", IpAddr::V4(Ipv4Addr::LOCALHOST)),
    );
    // Nobody waits for a gateway that was only tried out.
    dev.set("drain", "grace_ms", 0);
    dev.set("drain", "window_ms", 0);
    dev.0
        .try_into()
        .map_err(|error: toml::de::Error| ConfigError::Flag(error.to_string()))
}

/// An error and what caused it, on one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests;
