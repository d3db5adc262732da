//! Which servers there are, what each needs on this machine, and how it is started.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::ValueEnum;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::Peers;
use crate::dialect::Dialect;
use crate::gateway::{Gateway, Spawn, free_ports};
use crate::process::Process;
use crate::{run, usage};

/// All servers are held to this core, and the generator to the others.
pub const CORE: usize = 0;
/// What the tools are installed by, beside the sources.
const INSTALL: &str = "scripts/install-tools peers";
/// Where Debian has servers that are not in everybody's PATH.
const FURTHER_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];
/// The package that has uWebSockets.js, as it is installed.
const UWEBSOCKETS: &str = "@trufflesuite/uws-js-unofficial";

/// What is measured, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// The gateway.
    Longhaul,
    /// uWebSockets.js, with its own publish and subscribe.
    UwebsocketsJs,
    /// tokio and tokio-tungstenite.
    TokioTungstenite,
    /// Node.js and ws.
    NodeWs,
    /// NATS server.
    Nats,
    /// Mosquitto.
    Mosquitto,
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.to_possible_value();
        f.write_str(name.as_ref().map_or("", |name| name.get_name()))
    }
}

/// Where everything is.
pub struct Places {
    gateway: PathBuf,
    tungstenite: PathBuf,
    nats: Option<PathBuf>,
    mosquitto: Option<PathBuf>,
    node: Option<PathBuf>,
    /// bench/peers.
    folder: PathBuf,
    /// Where packages for Node.js are installed.
    packages: PathBuf,
    pin: bool,
}

impl Places {
    /// By the arguments, or where they usually are.
    pub fn new(args: &Peers) -> Self {
        let beside = |name: &str| {
            let this = std::env::current_exe().unwrap_or_default();
            this.with_file_name(name)
        };
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = args.folder.clone().unwrap_or_else(|| source.join("peers"));
        Self {
            gateway: args.gateway.clone().unwrap_or_else(|| beside("longhaul")),
            tungstenite: beside("longhaul-peer-tungstenite"),
            nats: args.nats_server.clone().or_else(|| in_path("nats-server")),
            mosquitto: in_path("mosquitto"),
            node: in_path("node"),
            packages: folder.join("../../.tools/peers"),
            folder,
            pin: !args.generator.no_pin,
        }
    }

    /// What a server lacks, and how to get it.
    pub fn missing(&self, peer: Peer) -> Option<String> {
        let program = |path: &Path, how: &str| {
            (!path.is_file()).then(|| format!("there is no {}: {how}", path.display()))
        };
        let installed = |path: &Option<PathBuf>, name: &str| match path {
            Some(path) => program(path, INSTALL),
            None => Some(format!("{name} is not in the PATH: {INSTALL}")),
        };
        let package = |name: &str, package: &str| {
            let path = self.modules(name).join(package).join("package.json");
            installed(&self.node, "node").or_else(|| program(&path, INSTALL))
        };
        match peer {
            Peer::Longhaul => program(
                &self.gateway,
                "build it with `cargo build --release`, or name it with --gateway",
            ),
            Peer::TokioTungstenite => program(
                &self.tungstenite,
                "build it with `cargo build --release -p longhaul-bench`",
            ),
            Peer::UwebsocketsJs => package("uwebsockets-js", UWEBSOCKETS),
            Peer::NodeWs => package("node-ws", "ws"),
            Peer::Nats => installed(&self.nats, "nats-server"),
            Peer::Mosquitto => installed(&self.mosquitto, "mosquitto"),
        }
    }

    /// Which version a server is, as it says itself.
    pub fn version(&self, peer: Peer) -> String {
        let found = match peer {
            Peer::Longhaul => says(&self.gateway, "--version"),
            Peer::TokioTungstenite => locked("tokio-tungstenite"),
            Peer::UwebsocketsJs => self.package_version("uwebsockets-js", UWEBSOCKETS),
            Peer::NodeWs => self.package_version("node-ws", "ws"),
            Peer::Nats => says(self.nats.as_deref().unwrap_or(Path::new("")), "--version"),
            Peer::Mosquitto => says(self.mosquitto.as_deref().unwrap_or(Path::new("")), "-h"),
        };
        found.unwrap_or_else(|error| format!("unknown: {error:#}"))
    }

    /// Starts a server on a free port, on one core, and waits until it listens.
    ///
    /// # Errors
    /// It does not start; the error shows the end of its log.
    pub fn start(&self, peer: Peer) -> anyhow::Result<Gateway> {
        usage::raise_open_files()?;
        on_core(self.pin, || match peer {
            Peer::Longhaul => Gateway::spawn(&Spawn {
                binary: Some(self.gateway.clone()),
                shards: 1,
                config: Some(run::ALL_AT_ONCE.to_owned()),
                tls: false,
                arguments: Vec::new(),
            }),
            Peer::TokioTungstenite => self.launch(Dialect::Plain, |[port, _], _| {
                let mut command = Command::new(&self.tungstenite);
                command.arg(port);
                Ok(command)
            }),
            Peer::UwebsocketsJs => self.launch_node("uwebsockets-js"),
            Peer::NodeWs => self.launch_node("node-ws"),
            Peer::Nats => self.launch(Dialect::Nats, |ports, directory| {
                let config = self.configuration("nats/nats-server.conf", ports, directory)?;
                let mut command = program(self.nats.as_deref())?;
                command.arg("--config").arg(config);
                Ok(command)
            }),
            Peer::Mosquitto => self.launch(Dialect::Mqtt, |ports, directory| {
                let config = self.configuration("mosquitto/mosquitto.conf", ports, directory)?;
                let mut command = program(self.mosquitto.as_deref())?;
                command.arg("-c").arg(config);
                Ok(command)
            }),
        })
    }

    fn launch_node(&self, name: &str) -> anyhow::Result<Gateway> {
        self.launch(Dialect::Plain, |[port, _], _| {
            let mut command = program(self.node.as_deref())?;
            command.arg(self.folder.join(name).join("server.cjs"));
            command.arg(port);
            command.env("NODE_PATH", self.modules(name));
            command.env("NODE_ENV", "production");
            Ok(command)
        })
    }

    /// Starts what `command` makes of two free ports, on the first of which it listens, and a folder.
    fn launch(
        &self,
        dialect: Dialect,
        command: impl FnOnce([&str; 2], &Path) -> anyhow::Result<Command>,
    ) -> anyhow::Result<Gateway> {
        let directory = TempDir::new()?;
        let ports = free_ports()?;
        let [port, spare] = ports.map(|address| address.port().to_string());
        let command = command([&port, &spare], directory.path())?;
        let mut process = Process::start("the server", command, directory)?;
        let target = ports[0];
        let patience = Duration::from_secs(1);
        process.await_ready(|| TcpStream::connect_timeout(&target, patience).is_ok())?;
        Ok(Gateway::peer(process, dialect, target, 1))
    }

    /// A configuration out of its template.
    fn configuration(
        &self,
        template: &str,
        [port, spare]: [&str; 2],
        directory: &Path,
    ) -> anyhow::Result<PathBuf> {
        let from = self.folder.join(template);
        let text = std::fs::read_to_string(&from)
            .with_context(|| format!("reading {}", from.display()))?;
        let path = directory.join("server.conf");
        std::fs::write(
            &path,
            text.replace("{port}", port).replace("{spare}", spare),
        )?;
        Ok(path)
    }

    fn modules(&self, name: &str) -> PathBuf {
        self.packages.join(name).join("node_modules")
    }

    fn package_version(&self, name: &str, package: &str) -> anyhow::Result<String> {
        let path = self.modules(name).join(package).join("package.json");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        let description: serde_json::Value = serde_json::from_str(&text)?;
        let version = description["version"].as_str().unwrap_or("unknown");
        let node = says(self.node.as_deref().unwrap_or(Path::new("")), "--version")?;
        Ok(format!("{version}, Node.js {node}"))
    }
}

fn program(path: Option<&Path>) -> anyhow::Result<Command> {
    path.map(Command::new)
        .ok_or_else(|| anyhow!("it is not installed: {INSTALL}"))
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(FURTHER_FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// The version in the first line that a program prints.
fn says(program: &Path, argument: &str) -> anyhow::Result<String> {
    let output = Command::new(program)
        .arg(argument)
        .output()
        .with_context(|| format!("asking {} for its version", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = text.lines().next().unwrap_or_default();
    let version = first
        .split(|c: char| c.is_whitespace() || c == ':')
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    Ok(version.unwrap_or(first).to_owned())
}

/// The version of a crate that this was built with.
fn locked(name: &str) -> anyhow::Result<String> {
    let lock = include_str!("../../../Cargo.lock");
    let entry = format!("name = \"{name}\"\nversion = \"");
    lock.split_once(&entry)
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(version, _)| version.to_owned())
        .ok_or_else(|| anyhow!("Cargo.lock has no {name}"))
}

/// Runs `start` while this thread is held to [`CORE`]: what it starts inherits that, before its first thread.
fn on_core<T>(pin: bool, start: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    if !pin {
        return start();
    }
    let this = Pid::from_raw(0);
    let before = sched_getaffinity(this)?;
    let mut one = CpuSet::new();
    one.set(CORE)?;
    sched_setaffinity(this, &one).with_context(|| format!("holding servers to core {CORE}"))?;
    let started = start();
    sched_setaffinity(this, &before)?;
    started
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        let folder = TempDir::new().unwrap();
        let script = folder.path().join("says");
        for (line, version) in [
            ("nats-server: v2.9.10", "2.9.10"),
            ("mosquitto version 2.0.11", "2.0.11"),
            ("v20.20.2", "20.20.2"),
            ("longhaul 0.1.0", "0.1.0"),
            ("strange", "strange"),
        ] {
            std::fs::write(&script, format!("echo '{line}'; echo 9.9\n")).unwrap();
            let output = says(Path::new("sh"), script.to_str().unwrap()).unwrap();
            assert_eq!(output, version);
        }
        let version = locked("tokio-tungstenite").unwrap();
        assert!(version.starts_with("0."), "{version}");
        assert!(locked("no-such-crate").is_err());
    }

    #[test]
    fn what_is_started_is_held_to_the_core_and_this_thread_is_not() {
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this).unwrap();
        let list = on_core(true, || {
            Ok(std::fs::read_to_string("/proc/thread-self/status")?)
        })
        .unwrap();
        assert!(list.contains(&format!("Cpus_allowed_list:\t{CORE}\n")));
        assert_eq!(sched_getaffinity(this).unwrap(), before);
    }
}
