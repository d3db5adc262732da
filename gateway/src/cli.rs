//! The command line.
#![forbid(unsafe_code)]

mod admin;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, value_parser};

pub use self::admin::{AdminArgs, AdminCall, WhomArgs};
use crate::config::{KeyAlgorithm, Overrides, SHARDS_HARD_MAX};
use crate::limits::CONNECTIONS_HARD_MAX;
use crate::session::mint::Bearer;
use crate::session::rights::Right;

/// WebSocket edge gateway for vehicle fleets.
#[derive(Debug, Parser)]
#[command(name = "longhaul", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the gateway
    Run(RunArgs),
    /// Print every setting with its comment and default, as a file for `run --config`; or check a file, or say what
    /// memory the limits imply
    Config(ConfigArgs),
    /// Say what this machine lacks for these settings, and what to do about it; exit code 1 if something is missing
    Check(CheckArgs),
    /// Make a token, for development and tests, and print it
    Token(TokenArgs),
    /// Give an order to a running node: revoke, evict, reload, drain
    Admin(AdminArgs),
}

/// Flags of `run`. What is not given here comes from the environment, then the file, then the defaults.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Configuration file (TOML); `longhaul config` prints one
    #[arg(long, value_name = "FILE", env = "LONGHAUL_CONFIG")]
    pub config: Option<PathBuf>,

    /// Development mode: a key of its own, loopback only, and the endpoint /echo
    #[arg(long)]
    pub dev: bool,

    /// Keep the development key in this file; it is made if there is none
    #[arg(long, value_name = "FILE", requires = "dev")]
    pub dev_key: Option<PathBuf>,

    /// Address for vehicles and dashboards [env: LONGHAUL_LISTEN]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

    /// Number of shards; 0: one per core [env: LONGHAUL_SHARDS]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(..=SHARDS_HARD_MAX as i64))]
    pub shards: Option<u16>,

    /// Name of this node [env: LONGHAUL_NODE]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,

    /// Address for health checks and metrics [env: LONGHAUL_CONTROL_LISTEN]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub control_listen: Option<SocketAddr>,

    /// Log level, or levels per module [env: LONGHAUL_LOG]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,

    /// Any other setting, as in the file; may be given several times
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<Setting>,
}

impl RunArgs {
    /// The settings that these flags give. A flag of its own wins over `--set`.
    pub fn overrides(&self) -> Overrides {
        let mut overrides = Overrides::default();
        for Setting {
            section,
            key,
            value,
        } in &self.set
        {
            overrides.set(section, key, value.clone());
        }
        if let Some(listen) = self.listen {
            overrides.set("server", "listen", listen.to_string());
        }
        if let Some(shards) = self.shards {
            overrides.set("server", "shards", i64::from(shards));
        }
        if let Some(node) = &self.node {
            overrides.set("server", "node", node.as_str());
        }
        if let Some(listen) = self.control_listen {
            overrides.set("control", "listen", listen.to_string());
        }
        if let Some(filter) = &self.log {
            overrides.set("log", "filter", filter.as_str());
        }
        overrides
    }
}

/// One `--set`.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    section: String,
    key: String,
    value: toml::Value,
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || {
            format!("\"{text}\" is not of the form SECTION.KEY=VALUE, such as server.pace_us=500")
        };
        let (name, value) = text.split_once('=').ok_or_else(form)?;
        let (section, key) = name.trim().split_once('.').ok_or_else(form)?;
        // A shell takes the quotes away, so what is no TOML value is text.
        let value =
            toml::Value::from_str(value).unwrap_or_else(|_| toml::Value::String(value.to_owned()));
        Ok(Self {
            section: section.to_owned(),
            key: key.to_owned(),
            value,
        })
    }
}

/// Flags of `config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Check this file instead, as `run --config` would
    #[arg(long, value_name = "FILE")]
    pub check: Option<PathBuf>,

    /// Print instead what memory the settings imply for this many connections, term by term [default: 1000000]
    #[arg(long, value_name = "CONNECTIONS", conflicts_with = "check", num_args = 0..=1,
        value_parser = value_parser!(u64).range(1..=CONNECTIONS_HARD_MAX))]
    pub budget: Option<Option<u64>>,

    /// How many of the connections are dashboards; left out: one in 50
    #[arg(long, value_name = "N", requires = "budget")]
    pub dashboards: Option<u64>,

    /// The settings that the budget is for; left out: the defaults, and the environment
    #[arg(long, value_name = "FILE", requires = "budget")]
    pub config: Option<PathBuf>,
}

/// Flags of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The settings that it will be started with; left out: the defaults, and the environment
    #[arg(long, value_name = "FILE", env = "LONGHAUL_CONFIG")]
    pub config: Option<PathBuf>,

    /// One JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// Flags of `token`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("signing").required(true).args(["dev_key", "key"]))]
pub struct TokenArgs {
    /// Who the bearer is
    #[arg(long)]
    pub role: Bearer,

    /// The fleet that the bearer belongs to; an operator without one is one of the whole node
    #[arg(long, required_if_eq_any([("role", "vehicle"), ("role", "dashboard")]))]
    pub fleet: Option<String>,

    /// The vehicle's id, the dashboard's user, or the operator
    #[arg(long)]
    pub subject: String,

    /// How long the token is valid, such as 90s, 1h or 30days
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    pub ttl: Duration,

    /// Sign with the development key in this file, see `run --dev-key`
    #[arg(long, value_name = "FILE", conflicts_with = "algorithm")]
    pub dev_key: Option<PathBuf>,

    /// Sign with the key in this file: an Ed25519 private key in PEM, or an HS256 secret
    #[arg(long, value_name = "FILE", requires = "algorithm")]
    pub key: Option<PathBuf>,

    /// What the key in --key is
    #[arg(long, requires = "key")]
    pub algorithm: Option<KeyAlgorithm>,

    /// Name of the key, for a gateway whose keys have a kid
    #[arg(long)]
    pub kid: Option<String>,

    /// The claim `iss`, for a gateway that checks it
    #[arg(long)]
    pub issuer: Option<String>,

    /// The claim `aud`, for a gateway that checks it
    #[arg(long)]
    pub audience: Option<String>,

    /// What a dashboard may do beyond watching; may be given several times
    #[arg(long, value_name = "RIGHT")]
    pub may: Vec<Right>,

    /// A group of the fleet that a vehicle is in; may be given several times
    #[arg(long, value_name = "NAME")]
    pub group: Vec<String>,

    /// An entry of the claim `grants`, in JSON, such as '{"groups":["night"],"topics":["positions"]}'; may be given several
    /// times
    #[arg(long, value_name = "JSON")]
    pub grant: Vec<GrantText>,
}

/// One `--grant`: a JSON object.
#[derive(Debug, Clone, PartialEq)]
pub struct GrantText(pub serde_json::Value);

impl FromStr for GrantText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match serde_json::from_str(text) {
            Ok(value @ serde_json::Value::Object(_)) => Ok(Self(value)),
            Ok(_) => Err("it is no JSON object".to_owned()),
            Err(error) => Err(format!("it is no JSON: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_setting_is_toml_or_text() {
        for (text, value) in [
            ("server.pace_us=500", toml::Value::Integer(500)),
            ("server.pin_cores=false", toml::Value::Boolean(false)),
            (
                "log.filter=info,longhaul=debug",
                toml::Value::String("info,longhaul=debug".to_owned()),
            ),
            ("server.node=\"500\"", toml::Value::String("500".to_owned())),
        ] {
            let setting: Setting = text.parse().expect(text);
            assert_eq!(setting.value, value, "{text}");
        }
        for text in ["", "server", "server.pace_us", "pace_us=5"] {
            assert!(
                text.parse::<Setting>()
                    .unwrap_err()
                    .contains("SECTION.KEY=VALUE"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_flag_of_its_own_wins_over_set() {
        let cli = Cli::try_parse_from([
            "longhaul",
            "run",
            "--set",
            "server.shards=2",
            "--shards",
            "3",
        ])
        .expect("it parses");
        let Command::Run(args) = cli.command else {
            panic!("it is run")
        };
        let config = crate::config::Config::load(None, args.overrides(), false).expect("it loads");
        assert_eq!(config.server.shards, 3);
    }
}
