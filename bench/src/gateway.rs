//! The gateway under test: started by us, or already running.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::provenance;
use crate::tls::Certificate;

const START_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How much of the gateway's log is shown when it does not start.
const LOG_BYTES_SHOWN: usize = 2_000;

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

/// A gateway that listens.
pub struct Gateway {
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
    child: Option<Child>,
    /// Lives as long as the gateway: its key, configuration and log.
    directory: Option<TempDir>,
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
        let log = directory.path().join("gateway.log");
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
        let output = File::create(&log)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let mut gateway = Self {
            target: data,
            control: Some(control),
            host: data.to_string(),
            path: "/v1".to_owned(),
            key,
            certificate,
            pid: Some(child.id()),
            shards: Some(spawn.shards),
            child: Some(child),
            directory: Some(directory),
        };
        gateway.await_ready(control)?;
        Ok(gateway)
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
            target,
            control: None,
            host: host.to_owned(),
            path: if path == "/" { "/v1".to_owned() } else { path },
            key: key.to_owned(),
            certificate: None,
            pid,
            shards: None,
            child: None,
            directory: None,
        })
    }

    fn await_ready(&mut self, control: SocketAddr) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                bail!("the gateway ended at once ({status}):\n{}", self.log_tail());
            }
            if is_ready(control) {
                return Ok(());
            }
            if began.elapsed() > START_TIMEOUT {
                bail!(
                    "the gateway was not ready after {} s:\n{}",
                    START_TIMEOUT.as_secs(),
                    self.log_tail()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The end of a spawned gateway's log.
    pub fn log_tail(&self) -> String {
        let Some(directory) = &self.directory else {
            return String::new();
        };
        let log = std::fs::read(directory.path().join("gateway.log")).unwrap_or_default();
        let from = log.len().saturating_sub(LOG_BYTES_SHOWN);
        String::from_utf8_lossy(&log[from..]).into_owned()
    }

    /// Whether a spawned gateway has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        if let Ok(pid) = i32::try_from(child.id()) {
            // Fails only if it is gone, which is what is wanted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let began = Instant::now();
        while matches!(child.try_wait(), Ok(None)) {
            if began.elapsed() > STOP_TIMEOUT {
                eprintln!(
                    "the gateway did not stop within {} s",
                    STOP_TIMEOUT.as_secs()
                );
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Two ports that are free now.
fn free_ports() -> anyhow::Result<[SocketAddr; 2]> {
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
