//! A gateway of the test's own: the real binary, built beside this client's.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::PATIENCE;

/// The fleet of all tests.
pub const FLEET: &str = "demo";

/// A running gateway. It ends with this value.
pub struct Gateway {
    process: Child,
    folder: Arc<TempDir>,
    log: Arc<Mutex<String>>,
    listen: SocketAddr,
}

/// The gateway that is built beside the client, or the one that LONGHAUL_TEST_GATEWAY names.
fn binary() -> PathBuf {
    let named = std::env::var_os("LONGHAUL_TEST_GATEWAY").map(PathBuf::from);
    let binary = named.unwrap_or_else(|| {
        Path::new(env!("CARGO_BIN_EXE_longhaul-vehicle")).with_file_name("longhaul")
    });
    assert!(
        binary.exists(),
        "{} is missing: cargo build -p longhaul-gateway",
        binary.display()
    );
    binary
}

impl Gateway {
    /// Starts one with an event log.
    pub fn start() -> Gateway {
        Gateway::start_with(&[])
    }

    /// Starts one with an event log and further arguments of `longhaul run`.
    pub fn start_with(arguments: &[&str]) -> Gateway {
        let folder = TempDir::new().expect("a folder for the test");
        Gateway::launch(Arc::new(folder), "127.0.0.1:0", true, arguments)
    }

    /// Starts one with an event log or without.
    pub fn start_with_events(events: bool) -> Gateway {
        let folder = TempDir::new().expect("a folder for the test");
        Gateway::launch(Arc::new(folder), "127.0.0.1:0", events, &[])
    }

    /// Kills it, and starts another one at its address, with its key and an event log.
    pub fn restart(self, arguments: &[&str]) -> Gateway {
        let (folder, listen) = (Arc::clone(&self.folder), self.listen);
        drop(self);
        Gateway::launch(folder, &listen.to_string(), true, arguments)
    }

    fn launch(folder: Arc<TempDir>, listen: &str, events: bool, arguments: &[&str]) -> Gateway {
        let log = format!(
            "events.directory={}",
            folder.path().join("events").display()
        );
        let log: &[&str] = if events { &["--set", &log] } else { &[] };
        let mut process = bound_to_this_thread(binary())
            .args(["run", "--dev", "--shards", "2"])
            .arg("--dev-key")
            .arg(folder.path().join("key"))
            .args(["--listen", listen, "--control-listen", "127.0.0.1:0"])
            .args(log)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the gateway starts");
        let stderr = process.stderr.take().expect("it is piped");
        let log = Arc::new(Mutex::new(String::new()));
        let (ready, is_ready) = channel();
        std::thread::spawn({
            let log = Arc::clone(&log);
            move || keep_log(stderr, &log, &ready)
        });
        // From here on, a panic ends the process.
        let mut gateway = Gateway {
            process,
            folder,
            log,
            listen: ([127, 0, 0, 1], 0).into(),
        };
        let line: Value = is_ready
            .recv_timeout(PATIENCE)
            .expect("the gateway becomes ready");
        let listen = line["listen"].as_str().expect("the line has the address");
        gateway.listen = listen.parse().expect("it is an address");
        gateway
    }

    /// Where vehicles and dashboards connect to.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// The WebSocket endpoint.
    pub fn url(&self) -> String {
        format!("ws://{}/v1", self.listen)
    }

    /// A folder that ends with the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A token for a vehicle.
    pub fn vehicle_token(&self, id: &str) -> String {
        self.token("vehicle", id, "1h", &[])
    }

    /// A token that this gateway accepts for so long, made with further arguments of `longhaul token`.
    pub fn token(&self, role: &str, subject: &str, ttl: &str, more: &[&str]) -> String {
        let output = Command::new(binary())
            .args(["token", "--role", role, "--fleet", FLEET])
            .args(["--subject", subject, "--ttl", ttl, "--dev-key"])
            .arg(self.folder.path().join("key"))
            .args(more)
            .output()
            .expect("the binary runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("a token is text")
    }

    /// Asks the process to stop, with a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("it still runs");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already; a child that was not waited for still has its number.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!("the gateway's log:\n{log}");
        }
    }
}

/// A command that the kernel kills when this thread ends, however it ends: a test that is killed leaves nothing behind.
fn bound_to_this_thread(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("/usr/bin/setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Keeps what the gateway logs, and passes on the line that says that it is ready.
fn keep_log(stderr: ChildStderr, log: &Mutex<String>, ready: &Sender<Value>) {
    let mut lines = BufReader::new(stderr);
    let mut line = String::new();
    while lines
        .by_ref()
        .read_line(&mut line)
        .is_ok_and(|read| read > 0)
    {
        log.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_str(&line);
        match serde_json::from_str::<Value>(&line) {
            // The test may have given up.
            Ok(said) if said["message"] == "longhaul is ready" => drop(ready.send(said)),
            _ => {}
        }
        line.clear();
    }
}
