//! Longhaul: a WebSocket edge gateway for vehicle fleets.
//!
//! - [`cli`], [`config`], [`limits`], [`logging`], [`startup`]: from the command line to what the server starts with
//! - [`check`]: what this machine lacks for it
//! - [`server`]: starts shards and control plane, supervises, stops
//! - [`session`]: tokens, keys and credentials: what a peer may do
//! - [`keyring`]: where keys come from, and how they are exchanged
//! - [`shard`]: the data plane: one thread, one ring, one tick
//! - [`transport`]: TLS, without I/O
//! - [`websocket`]: upgrade and messages, without I/O
//! - [`fleet`]: vehicles, their last positions, who watches them
//! - [`events`]: what must arrive: the event log, consumers, commands
//! - [`state`]: what of it survives a restart, and passes to a successor
//! - [`audit`]: who got in, who did not, and who did what, one line each
//! - [`operator`]: the other end of orders: `longhaul admin`
//! - [`revocations`]: whose tokens are not good any more
//! - [`metrics`]: what is counted
//! - [`control`]: health, readiness, metrics and drain over HTTP

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, anyhow};
use clap::Parser;

use crate::check::Verdict;
use crate::cli::{AdminArgs, CheckArgs, Cli, Command, ConfigArgs, RunArgs, TokenArgs};
use crate::config::{Config, KeyAlgorithm, Overrides};
use crate::limits::budget::{self, Load};
use crate::session::keys::SigningKey;
use crate::session::mint::{MintError, NewToken, mint};
use crate::session::token::IdBounds;
use crate::startup::Startup;
use crate::transport::Certificates;

mod audit;
mod check;
mod cli;
mod config;
mod control;
mod events;
mod fleet;
#[cfg(test)]
mod fuzz;
mod keyring;
mod limits;
mod logging;
mod metrics;
mod operator;
mod revocations;
mod server;
mod session;
mod shard;
mod startup;
mod state;
mod transport;
mod websocket;

/// Without transparent huge pages (the crate's feature `no_thp`): a few live bytes would keep 2 MiB resident, and what a
/// connection costs could not be told.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    let done = match cli.command {
        Command::Run(args) => run(&args),
        Command::Config(args) => print_config(&args),
        Command::Check(args) => check(&args),
        Command::Token(args) => print_token(args),
        Command::Admin(args) => order(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(error) = failure.error {
                eprintln!("longhaul: {error:#}");
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Starts the gateway and returns when it has drained.
fn run(args: &RunArgs) -> Result<(), Failure> {
    let config = Config::load(args.config.as_deref(), args.overrides(), args.dev)
        .map_err(Failure::config)?;
    logging::start(&config.log).map_err(Failure::config)?;
    check::log(&check::examine(&config), args.dev);
    let startup =
        Startup::prepare(config, args.dev, args.dev_key.as_deref()).map_err(Failure::config)?;
    startup.announce();
    end_on_panic();
    server::run(startup).map_err(|error| {
        // A folder or file that cannot be used is the operator's to mend, and no restart helps.
        if error.is::<events::store::StoreError>() || error.is::<audit::AuditError>() {
            Failure::config(error)
        } else {
            Failure::internal(error)
        }
    })
}

/// A panic anywhere ends the process, in every build: a gateway that has lost a shard must not look alive. The one
/// exception is a storage library that stumbles over a damaged file, which is caught where it is called.
fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        if events::store::panics_are_damage() {
            tracing::error!(
                thread = thread.name().unwrap_or("unnamed"),
                "the event log's file is damaged: {panic}"
            );
            return;
        }
        tracing::error!(
            thread = thread.name().unwrap_or("unnamed"),
            "internal error, the process ends: {panic}"
        );
        std::process::abort();
    }));
}

/// Prints the commented settings, or says whether a file is good, or what memory settings imply.
fn print_config(args: &ConfigArgs) -> Result<(), Failure> {
    if let Some(connections) = args.budget {
        return print_budget(args, connections.unwrap_or(budget::CONNECTIONS));
    }
    match &args.check {
        None => print(&config::template()),
        Some(file) => {
            let config =
                Config::load(Some(file), Overrides::default(), false).map_err(Failure::config)?;
            logging::filter(&config.log).map_err(Failure::config)?;
            startup::load_keys(&config.auth).map_err(Failure::config)?;
            Certificates::load(&config.tls).map_err(Failure::config)?;
            print(&format!("{} is good\n", file.display()))
        }
    }
}

fn print_budget(args: &ConfigArgs, connections: u64) -> Result<(), Failure> {
    let config = Config::load(args.config.as_deref(), Overrides::default(), false)
        .map_err(Failure::config)?;
    let dashboards = args
        .dashboards
        .unwrap_or(connections / budget::CONNECTIONS_PER_DASHBOARD);
    if dashboards > connections {
        return Err(Failure::usage(anyhow!(
            "--dashboards {dashboards} is more than --budget {connections}, the connections in all"
        )));
    }
    let load = Load {
        connections,
        dashboards,
        shards: server::shard_count(&config) as u64,
    };
    print(&budget::print(&config, load))
}

/// Says what this machine lacks.
fn check(args: &CheckArgs) -> Result<(), Failure> {
    let config = Config::load(args.config.as_deref(), Overrides::default(), false)
        .map_err(Failure::config)?;
    let findings = check::examine(&config);
    print(&if args.json {
        check::json(&findings)
    } else {
        check::text(&findings)
    })?;
    if findings
        .iter()
        .any(|found| found.verdict == Verdict::Missing)
    {
        return Err(Failure::told(NOT_READY));
    }
    Ok(())
}

/// Makes a token and prints it.
fn print_token(args: TokenArgs) -> Result<(), Failure> {
    let key = match (&args.dev_key, &args.key, args.algorithm) {
        (Some(file), _, _) => SigningKey::load(KeyAlgorithm::Hs256, file)
            .context("cannot sign with the development key (`longhaul run --dev --dev-key FILE` makes one)")
            .map_err(Failure::config)?,
        (None, Some(file), Some(algorithm)) => {
            SigningKey::load(algorithm, file).map_err(Failure::config)?
        }
        _ => {
            return Err(Failure::usage(anyhow!(
                "give --dev-key FILE, or --key FILE and --algorithm"
            )));
        }
    };
    let issued_unix = SystemTime::UNIX_EPOCH
        .elapsed()
        .context("the clock is before 1970")
        .map_err(Failure::internal)?
        .as_secs();
    let token = NewToken {
        role: args.role,
        fleet: args.fleet,
        subject: args.subject,
        issued_unix,
        expires_unix: issued_unix.saturating_add(args.ttl.as_secs()),
        kid: args.kid,
        issuer: args.issuer,
        audience: args.audience,
        may: args.may,
        groups: args.group,
        grants: (!args.grant.is_empty())
            .then(|| args.grant.into_iter().map(|grant| grant.0).collect()),
    };
    let bounds = IdBounds::new(&Config::defaults().map_err(Failure::internal)?.limits);
    match mint(&key, &token, bounds) {
        Ok(token) => print(&format!("{token}\n")),
        Err(error @ MintError::Refused(_)) => Err(Failure::usage(error)),
        Err(error) => Err(Failure::internal(error)),
    }
}

/// Gives an order to a running node, and prints what it answered.
fn order(args: &AdminArgs) -> Result<(), Failure> {
    let answered = operator::run(args).map_err(|error| Failure {
        code: UNAVAILABLE,
        error: Some(error),
    })?;
    print(&answered.says)?;
    if answered.ok {
        Ok(())
    } else {
        Err(Failure::told(NOT_DONE))
    }
}

/// Help and version go to standard output and are no failure; everything else is a usage error.
fn explain(error: &clap::Error) -> ExitCode {
    // With nowhere left to write to, the exit code still tells.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // `longhaul config | head` has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written
            .context("cannot write to standard output")
            .map_err(Failure::internal),
    }
}

/// `longhaul check` found something missing.
const NOT_READY: u8 = 1;
/// `longhaul admin`: the node did not do it.
const NOT_DONE: u8 = 1;
// The others as in sysexits.h.
const USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;
const INTERNAL: u8 = 70;
const CONFIG: u8 = 78;

/// Why the process ends, and with which code.
struct Failure {
    code: u8,
    /// None if what was printed says it.
    error: Option<anyhow::Error>,
}

impl Failure {
    /// The command line is wrong.
    fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: USAGE,
            error: Some(error.into()),
        }
    }

    /// A setting, or a file that one names, is wrong.
    fn config(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: CONFIG,
            error: Some(error.into()),
        }
    }

    /// What was printed says why.
    fn told(code: u8) -> Self {
        Self { code, error: None }
    }

    /// Something failed that should not.
    fn internal(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: INTERNAL,
            error: Some(error.into()),
        }
    }
}
