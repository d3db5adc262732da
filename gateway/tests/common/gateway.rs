//! A gateway of the test's own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::PATIENCE;

/// The fleet of tests that need only one.
pub const FLEET: &str = "demo";

/// The user that owns nothing.
const NOBODY: u32 = 65_534;

/// A running gateway. It ends with this value, and also if the test's thread ends in any other way.
pub struct Gateway {
    process: Child,
    folder: TempDir,
    log: Arc<Mutex<String>>,
    listen: SocketAddr,
    control: SocketAddr,
    /// When it was ready, in seconds since the Unix epoch.
    ready_unix: u64,
}

fn unix_s() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed();
    since.expect("the clock is right").as_secs()
}

impl Gateway {
    /// Starts a gateway in development mode, on free ports.
    pub fn start(shards: usize) -> Gateway {
        Gateway::start_with(shards, &[])
    }

    /// Starts a gateway with further arguments of `longhaul run`.
    pub fn start_with(shards: usize, arguments: &[&str]) -> Gateway {
        let folder = TempDir::new().expect("a folder for the test");
        let key = folder.path().join("key");
        let key = key.to_str().expect("temporary folders have plain names");
        let mut all = vec!["--dev", "--dev-key", key, "--listen", "127.0.0.1:0"];
        all.extend(arguments);
        Gateway::launch(folder, shards, &all)
    }

    /// Starts a gateway that other machines can reach, at this address, with a key in the same place.
    pub fn start_at(listen: &str, shards: usize, arguments: &[&str]) -> Gateway {
        let folder = TempDir::new().expect("a folder for the test");
        std::fs::write(folder.path().join("key"), [b'k'; 48]).expect("the folder takes it");
        let settings = folder.path().join("longhaul.toml");
        let text = "[[auth.keys]]\nalgorithm = \"HS256\"\nfile = \"key\"\n";
        std::fs::write(&settings, text).expect("the folder takes it");
        let settings = settings
            .to_str()
            .expect("temporary folders have plain names");
        let mut all = vec!["--config", settings, "--listen", listen];
        all.extend(arguments);
        Gateway::launch(folder, shards, &all)
    }

    /// Starts a gateway that keeps events and state, as an ordinary user, and under the seccomp profile for containers:
    /// any other system call ends it. A test that does not run as root cannot choose the user.
    pub fn start_confined(shards: usize, arguments: &[&str]) -> Gateway {
        let folder = TempDir::new().expect("a folder for the test");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let (key, events, state) = (at("key"), at("events"), at("state"));
        let (events, state) = (
            format!("events.directory={events}"),
            format!("state.directory={state}"),
        );
        let mut all = vec!["--dev", "--dev-key", &key, "--listen", "127.0.0.1:0"];
        all.extend(["--set", &events, "--set", &state]);
        all.extend(["--set", "events.free_bytes_min=0"]);
        all.extend(arguments);
        // The ordinary user may not be able to reach the folder that the binaries were built in.
        let binary = Path::new(env!("CARGO_BIN_EXE_longhaul"));
        let confine = binary.with_file_name("examples").join("confine");
        std::fs::copy(binary, at("longhaul")).expect("the folder takes it");
        std::fs::copy(&confine, at("confine")).expect("the example is built beside the tests");
        let profile = concat!(env!("CARGO_MANIFEST_DIR"), "/../tuning/seccomp.json");
        std::fs::copy(profile, at("seccomp.json")).expect("the folder takes it");
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if geteuid().is_root() {
            std::os::unix::fs::chown(folder.path(), Some(NOBODY), Some(NOBODY))
                .expect("root may give it away");
            let nobody = NOBODY.to_string();
            command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
        }
        command.args(["--", &at("confine"), &at("seccomp.json"), &at("longhaul")]);
        Gateway::launch_by(command, folder, shards, &all)
    }

    fn launch(folder: TempDir, shards: usize, arguments: &[&str]) -> Gateway {
        let command = bound_to_this_thread(env!("CARGO_BIN_EXE_longhaul"));
        Gateway::launch_by(command, folder, shards, arguments)
    }

    fn launch_by(
        mut command: Command,
        folder: TempDir,
        shards: usize,
        arguments: &[&str],
    ) -> Gateway {
        let mut process = command
            .arg("run")
            .args(["--control-listen", "127.0.0.1:0"])
            .args(["--shards", &shards.to_string()])
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
            control: ([127, 0, 0, 1], 0).into(),
            ready_unix: 0,
        };
        (gateway.listen, gateway.control) = gateway.addresses(&is_ready);
        gateway.ready_unix = unix_s();
        gateway
    }

    fn addresses(&mut self, is_ready: &Receiver<Value>) -> (SocketAddr, SocketAddr) {
        let Ok(line) = is_ready.recv_timeout(PATIENCE) else {
            let ended = self.process.try_wait();
            panic!("the gateway did not become ready ({ended:?})");
        };
        let address = |name: &str| {
            let text = line[name].as_str().expect("the line has the address");
            text.parse().expect("it is an address")
        };
        (address("listen"), address("control"))
    }

    /// Where vehicles and dashboards connect to.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where the control plane listens.
    pub fn control(&self) -> SocketAddr {
        self.control
    }

    /// The WebSocket endpoint.
    pub fn url(&self) -> String {
        format!("ws://{}/v1", self.listen)
    }

    /// The development key.
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    /// A folder that ends with the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A token for a vehicle of [`FLEET`].
    pub fn vehicle_token(&self, id: &str) -> String {
        self.token("vehicle", FLEET, id)
    }

    /// A token for a dashboard of [`FLEET`].
    pub fn dashboard_token(&self, user: &str) -> String {
        self.token("dashboard", FLEET, user)
    }

    /// Waits until a token can be newer than the process: it does not know which of its first second were used.
    pub fn wait_for_the_next_second(&self) {
        while unix_s() <= self.ready_unix {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A fresh token for an operator of the whole node, or of one fleet.
    pub fn operator_token(&self, fleet: Option<&str>) -> String {
        let key = self.key();
        let key = key.to_str().expect("temporary folders have plain names");
        self.wait_for_the_next_second();
        let mut all = vec!["token", "--role", "operator", "--subject", "ada"];
        all.extend(["--ttl", "60s", "--dev-key", key]);
        all.extend(fleet.into_iter().flat_map(|fleet| ["--fleet", fleet]));
        longhaul(&all)
    }

    /// A token that this gateway accepts.
    pub fn token(&self, role: &str, fleet: &str, subject: &str) -> String {
        let key = self.key();
        let key = key.to_str().expect("temporary folders have plain names");
        token(&["--dev-key", key], role, fleet, subject)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Asks the process to stop, with a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("it still runs");
    }

    /// Waits until the process has ended, and says how.
    pub fn wait(&mut self) -> ExitStatus {
        let asked = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("it is a child") {
                return status;
            }
            assert!(asked.elapsed() < PATIENCE, "the gateway does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
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
pub fn bound_to_this_thread(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("/usr/bin/setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Makes a token with `longhaul token` and these arguments.
pub fn token(arguments: &[&str], role: &str, fleet: &str, subject: &str) -> String {
    let mut all = vec![
        "token",
        "--role",
        role,
        "--fleet",
        fleet,
        "--subject",
        subject,
    ];
    all.extend(arguments);
    longhaul(&all)
}

/// Runs the binary, which must succeed, and gives what it prints.
pub fn longhaul(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_longhaul"))
        .args(arguments)
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).expect("it is text");
    said.trim_end().to_owned()
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
