//! Clients that others wrote, each on its own WebSocket library.
//!
//! A client is a process. It takes commands on its standard input, one JSON object a line:
//!
//! | command | the client sends |
//! |---|---|
//! | `{"fix": FIX, "vehicle_id": ID}` | `Position`; the id may be left out |
//! | `{"subscribe": [ID, ...]}` | `Subscribe` to these vehicles |
//! | `{"whole_fleet": true}` | `Subscribe` to the whole fleet |
//! | `{"unsubscribe": [ID, ...]}` | `Unsubscribe` from these vehicles |
//!
//! and says what it receives on its standard output in the same manner:
//!
//! | line | the client received |
//! |---|---|
//! | `{"welcome": {"role", "fleet", "subject"}}` | `Welcome` |
//! | `{"ack": {"kind", "watching"}}` | `Ack` |
//! | `{"fix": FIX}` | a fix in `Positions`, with the id from `Names` in place of its index |
//! | `{"error": CODE}` | `Error` |
//! | `{"closed": CODE}` | a close frame |
//!
//! `websocat` knows no commands: what goes in and out is the gateway's own JSON, and translated here.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use longhaul_codec::Fix;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::PATIENCE;
use super::gateway::{Gateway, bound_to_this_thread};
use super::tools::{program, root, tool};

/// Which client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// Python `websockets`, JSON.
    PythonJson,
    /// Python `websockets` and `flatbuffers`, binary.
    PythonBinary,
    /// Node.js `ws`, JSON.
    Node,
    /// `websocat`, JSON.
    Websocat,
}

impl Library {
    /// Every one.
    pub const ALL: [Library; 4] = [
        Library::PythonJson,
        Library::PythonBinary,
        Library::Node,
        Library::Websocat,
    ];

    fn command(self, gateway: &Gateway, token: &str, generated: &TempDir) -> Command {
        let mut command = match self {
            Library::PythonJson | Library::PythonBinary => {
                bound_to_this_thread(tool("python/bin/python"))
            }
            Library::Node => bound_to_this_thread("node"),
            Library::Websocat => bound_to_this_thread(tool("bin/websocat")),
        };
        match self {
            Library::PythonJson => command.arg(program("json_client.py")),
            Library::PythonBinary => {
                generate_python(generated);
                command
                    .env("PYTHONPATH", generated.path())
                    .arg(program("binary_client.py"))
            }
            Library::Node => command
                .env("NODE_PATH", tool("node/node_modules"))
                .arg(program("node_client.cjs")),
            Library::Websocat => {
                return websocat(command, gateway, token);
            }
        };
        command.arg(gateway.url()).arg(token);
        command
    }
}

fn websocat(mut command: Command, gateway: &Gateway, token: &str) -> Command {
    command
        .args(["--text", "--exit-on-eof", "--protocol", "longhaul.v1.json"])
        .arg(format!("--header=Authorization: Bearer {token}"))
        // Its other way to read standard input passes lines from a pipe on only when the pipe ends.
        .args(["threadedstdio:", &gateway.url()]);
    command
}

/// Makes the schema's Python code, as the author of a client would.
fn generate_python(into: &TempDir) {
    let output = Command::new(root().join("scripts/generate-schema"))
        .arg("--python")
        .arg(into.path())
        .output()
        .expect("the script runs");
    assert!(output.status.success(), "{output:?}");
}

/// A running client.
pub struct Foreign {
    library: Library,
    process: Child,
    input: Option<ChildStdin>,
    said: Receiver<Value>,
    requests: u64,
    names: HashMap<u64, Value>,
    translated: VecDeque<Value>,
    _generated: TempDir,
}

impl Foreign {
    /// Connects, and checks the Welcome.
    pub fn connect(library: Library, gateway: &Gateway, role: &str, subject: &str) -> Foreign {
        let token = gateway.token(role, super::gateway::FLEET, subject);
        let generated = TempDir::new().expect("a folder for generated code");
        let mut process = library
            .command(gateway, &token, &generated)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{library:?} does not start: {error}"));
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        let (say, said) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if say.send(line).is_err() {
                    return;
                }
            }
        });
        let mut client = Foreign {
            library,
            input: process.stdin.take(),
            process,
            said,
            requests: 0,
            names: HashMap::new(),
            translated: VecDeque::new(),
            _generated: generated,
        };
        let role = if role == "vehicle" {
            "Vehicle"
        } else {
            "Dashboard"
        };
        client.expect(json!({ "welcome": {
            "role": role, "fleet": super::gateway::FLEET, "subject": subject
        }}));
        client
    }

    /// Gives a command.
    pub fn tell(&mut self, command: Value) {
        let line = match self.library {
            Library::Websocat => self.as_message(command),
            _ => command,
        };
        let input = self.input.as_mut().expect("it is connected");
        writeln!(input, "{line}").expect("the client listens");
    }

    /// Reports a position.
    pub fn report(&mut self, fix: Fix) {
        self.tell(json!({ "fix": fix }));
    }

    /// The next thing that it says.
    #[track_caller]
    pub fn next(&mut self) -> Value {
        while self.translated.is_empty() {
            let line = self
                .said
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("{:?} says nothing", self.library));
            match self.library {
                Library::Websocat => self.translate(line),
                _ => self.translated.push_back(line),
            }
        }
        self.translated
            .pop_front()
            .expect("the loop ended because of it")
    }

    /// Checks the next thing that it says.
    #[track_caller]
    pub fn expect(&mut self, line: Value) {
        assert_eq!(self.next(), line, "{:?}", self.library);
    }

    /// Checks that this fix of that vehicle comes next.
    #[track_caller]
    pub fn expect_fix(&mut self, vehicle: &str, fix: Fix) {
        let mut fix = json!(fix);
        fix["vehicle"] = vehicle.into();
        self.expect(json!({ "fix": fix }));
    }

    /// Closes, and checks that it was closed in order.
    #[track_caller]
    pub fn close(mut self) {
        self.input = None;
        if self.library != Library::Websocat {
            self.expect(json!({ "closed": 1000 }));
        }
        let status = self.wait();
        assert!(status.success(), "{:?}: {status}", self.library);
    }

    /// Waits until the process has ended.
    pub fn wait(&mut self) -> ExitStatus {
        let asked = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("it is a child") {
                return status;
            }
            assert!(
                asked.elapsed() < PATIENCE,
                "{:?} does not end",
                self.library
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// A command as the message that it stands for.
    fn as_message(&mut self, command: Value) -> Value {
        self.requests += 1;
        let request = self.requests;
        let mut message = command;
        let kind = if message.get("fix").is_some() {
            "Position"
        } else if let Some(vehicles) = message.get("unsubscribe").cloned() {
            message = json!({ "request": request, "vehicles": vehicles });
            "Unsubscribe"
        } else {
            let vehicles = message.get("subscribe").cloned().unwrap_or(json!([]));
            let whole_fleet = message.get("whole_fleet").cloned().unwrap_or(json!(false));
            message =
                json!({ "request": request, "vehicles": vehicles, "whole_fleet": whole_fleet });
            "Subscribe"
        };
        message["type"] = kind.into();
        message
    }

    /// A message as what the other clients would say about it.
    fn translate(&mut self, message: Value) {
        let (translated, names) = (&mut self.translated, &mut self.names);
        let mut said = |line| translated.push_back(line);
        match message["type"].as_str() {
            Some("Welcome") => {
                let [role, fleet, subject] =
                    ["role", "fleet", "subject"].map(|name| &message[name]);
                said(json!({ "welcome": { "role": role, "fleet": fleet, "subject": subject } }));
            }
            Some("Ack") => {
                let [kind, watching] = ["kind", "watching"].map(|name| &message[name]);
                said(json!({ "ack": { "kind": kind, "watching": watching } }));
            }
            Some("Error") => said(json!({ "error": message["code"] })),
            Some("Names") => {
                let list = |name: &str| message[name].as_array().cloned().unwrap_or_default();
                let vehicles = list("vehicles").into_iter();
                let vehicles = vehicles.filter_map(|vehicle| vehicle.as_u64());
                names.extend(vehicles.zip(list("ids")));
            }
            Some("Positions") => {
                for fix in message["fixes"].as_array().into_iter().flatten() {
                    let mut fix = fix.clone();
                    let name = fix["vehicle"].as_u64().and_then(|index| names.get(&index));
                    fix["vehicle"] = name.expect("Names comes before the first position").clone();
                    said(json!({ "fix": fix }));
                }
            }
            _ => {}
        }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // It may have ended already; a child that was not waited for still has its number.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
