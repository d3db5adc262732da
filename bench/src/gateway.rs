//! The gateway under test: started by us, or already running.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::dialect::Dialect;
use crate::process::Process;
use crate::provenance;
use crate::tls::Certificate;

/// How to start a gateway.
#[derive(Clone, Debug)]
pub struct Spawn {
    /// The binary; none: the one beside this binary.
    pub binary: Option<PathBuf>,
    /// `--shards`.
    pub shards: usize,
    /// Content of a configuration file.
    pub config: Option<String>,
    /// It speaks TLS, with a certificate of its own making.
    pub tls: bool,
    /// Further arguments.
    pub arguments: Vec<String>,
}

/// A gateway that listens, or what it is compared with.
pub struct Gateway {
    /// What it speaks.
    pub dialect: Dialect,
    /// Its data listener.
    pub target: SocketAddr,
    /// Its control listener, if known: metrics and readiness.
    pub control: Option<SocketAddr>,
    /// For the `Host` header.
    pub host: String,
    /// Path of the upgrade.
    pub path: String,
    /// File with the token secret.
    pub key: PathBuf,
    /// File with its certificate, if it speaks TLS.
    pub certificate: Option<PathBuf>,
    /// Its process, if known.
    pub pid: Option<u32>,
    /// How many shards it was started with, if known.
    pub shards: Option<usize>,
    process: Option<Process>,
}

impl Gateway {
    /// Starts a gateway on free ports of the loopback interface and waits until it is ready.
    ///
    /// # Errors
    /// It does not start; the error shows the end of its log.
    pub fn spawn(spawn: &Spawn) -> anyhow::Result<Self> {
        let binary = match &spawn.binary {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("longhaul"),
        };
        if !binary.exists() {
            bail!(
                "no gateway at {}: build it with `cargo build --release`, or name it with --gateway",
                binary.display()
            );
        }
        provenance::gateway_is(&binary);
        let directory = TempDir::new()?;
        let key = directory.path().join("dev.key");
        let [data, control] = free_ports()?;
        let mut command = Command::new(&binary);
        command.arg("run").arg("--dev").arg("--dev-key").arg(&key);
        command.arg("--listen").arg(data.to_string());
        command.arg("--control-listen").arg(control.to_string());
        command.arg("--shards").arg(spawn.shards.to_string());
        let mut config = spawn.config.clone().unwrap_or_default();
        let mut certificate = None;
        if spawn.tls {
            let made = Certificate::make(directory.path())?;
            config.push_str(&made.settings());
            certificate = Some(made.chain);
        }
        if !config.is_empty() {
            let path = directory.path().join("longhaul.toml");
            std::fs::write(&path, config)?;
            command.arg("--config").arg(path);
        }
        command.args(&spawn.arguments);
        let mut process = Process::start("the gateway", command, directory)?;
        process.await_ready(|| is_ready(control))?;
        Ok(Self {
            dialect: Dialect::Longhaul,
            target: data,
            control: Some(control),
            host: data.to_string(),
            path: "/v1".to_owned(),
            key,
            certificate,
            pid: Some(process.pid()),
            shards: Some(spawn.shards),
            process: Some(process),
        })
    }

    /// Another server, at `target`, that was started here and is held to `cores`.
    pub fn peer(process: Process, dialect: Dialect, target: SocketAddr, cores: usize) -> Self {
        Self {
            dialect,
            target,
            control: None,
            host: target.to_string(),
            path: "/".to_owned(),
            key: PathBuf::new(),
            certificate: None,
            pid: Some(process.pid()),
            shards: Some(cores),
            process: Some(process),
        }
    }

    /// A gateway that runs already, at `ws://HOST:PORT[/PATH]`.
    ///
    /// # Errors
    /// The URL is none, or its host is unknown.
    pub fn at(url: &str, key: &Path, pid: Option<u32>) -> anyhow::Result<Self> {
        let rest = url
            .strip_prefix("ws://")
            .with_context(|| format!("\"{url}\" does not begin with ws://"))?;
        let (host, path) = match rest.split_once('/') {
            Some((host, path)) => (host, format!("/{path}")),
            None => (rest, "/v1".to_owned()),
        };
        let target = host
            .to_socket_addrs()
            .with_context(|| format!("\"{host}\" is no HOST:PORT"))?
            .next()
            .with_context(|| format!("\"{host}\" has no address"))?;
        Ok(Self {
            dialect: Dialect::Longhaul,
            target,
            control: None,
            host: host.to_owned(),
            path: if path == "/" { "/v1".to_owned() } else { path },
            key: key.to_owned(),
            certificate: None,
            pid,
            shards: None,
            process: None,
        })
    }

    /// The end of a spawned gateway's log.
    pub fn log_tail(&self) -> String {
        self.process
            .as_ref()
            .map_or_else(String::new, Process::log_tail)
    }

    /// Whether a spawned gateway has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::has_ended)
    }
}

/// Two ports that are free now.
///
/// # Errors
/// There are none.
pub fn free_ports() -> anyhow::Result<[SocketAddr; 2]> {
    let listeners = [
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
    ];
    Ok([listeners[0].local_addr()?, listeners[1].local_addr()?])
}

/// `GET /readyz` answers 200.
pub fn is_ready(control: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&control, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(
            stream,
            "GET /readyz HTTP/1.1\r\nHost: {control}\r\nConnection: close\r\n\r\n"
        )?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(&status == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let cases = [
            ("ws://127.0.0.1:9000", "/v1"),
            ("ws://127.0.0.1:9000/", "/v1"),
            ("ws://127.0.0.1:9000/v1", "/v1"),
            ("ws://127.0.0.1:9000/other/v1", "/other/v1"),
        ];
        for (url, path) in cases {
            let gateway = Gateway::at(url, Path::new("key"), Some(7)).unwrap();
            assert_eq!(
                (gateway.path.as_str(), gateway.target.port()),
                (path, 9_000)
            );
            assert_eq!(gateway.host, "127.0.0.1:9000");
        }
        for url in ["http://127.0.0.1:9000", "ws://127.0.0.1", "127.0.0.1:9000"] {
            assert!(Gateway::at(url, Path::new("key"), None).is_err(), "{url}");
        }
    }
}
