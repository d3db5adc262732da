//! The program: lines in, lines out, exit codes.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::{Dashboard, Gateway, PATIENCE, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// The running program. It ends with this value.
struct Program {
    process: Child,
    lines: Receiver<Value>,
}

impl Program {
    fn start(url: &str, token: &str, folder: &Path, arguments: &[&str]) -> Program {
        let file = folder.join("token");
        std::fs::write(&file, token).expect("it is written");
        let mut process = Command::new(env!("CARGO_BIN_EXE_longhaul-vehicle"))
            .args(["--url", url])
            .arg("--token-file")
            .arg(file)
            .arg("--queue")
            .arg(folder.join("queue"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        let (say, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).expect("each line is JSON");
                if say.send(line).is_err() {
                    return;
                }
            }
        });
        Program { process, lines }
    }

    fn tell(&mut self, line: &str) {
        let input = self.process.stdin.as_mut().expect("it is open");
        writeln!(input, "{line}").expect("it is read");
    }

    /// Reads up to a line with this key, and gives what it has.
    fn says(&self, key: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("it does not say {key}"));
            if let Some(value) = line.get(key) {
                return value.clone();
            }
        }
    }

    /// The end of its input, and how it ends.
    fn end(mut self) -> i32 {
        drop(self.process.stdin.take());
        self.wait().code().expect("it was not killed")
    }

    fn wait(&mut self) -> ExitStatus {
        let asked = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("it is a child") {
                return status;
            }
            assert!(asked.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_become_positions_and_events() {
    let gateway = Gateway::start();
    let dashboard = Dashboard::open(&gateway, "me", &["positions", "events"]).await;
    let token = gateway.vehicle_token("truck-1");
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = Program::start(&gateway.url(), &token, folder.path(), &[]);
    while program.says("state")["name"] != "Connected" {}
    program.tell(r#"{"position":{"lat":52.52,"lon":13.405,"speed_m_s":11.1,"heading_deg":90}}"#);
    program.tell(r#"{"event":{"topic":"door","json":{"open": true}}}"#);
    let id = program.says("queued")["id"].clone();
    assert_eq!(program.says("acked")["id"], id);
    for (line, says) in [
        ("nonsense", "expected"),
        (r#"{"position":{"lat":99,"lon":0}}"#, "lat is 99"),
        (r#"{"event":{"topic":"presence"}}"#, "reserved"),
        (
            r#"{"result":{"command_id":7,"status":"Done"}}"#,
            "command 7",
        ),
    ] {
        program.tell(line);
        let error = program.says("error");
        assert!(
            error["what"]
                .as_str()
                .is_some_and(|what| what.contains(says)),
            "{error}"
        );
    }
    program.tell("");
    program.tell("{");
    assert_eq!(
        program.says("error")["line"],
        8,
        "lines are counted, empty ones too"
    );
    eventually("both", || {
        let seen = dashboard.seen();
        seen.fixes.contains_key("truck-1") && !seen.events.is_empty()
    })
    .await;
    assert_eq!(dashboard.seen().texts_of("truck-1"), [r#"{"open": true}"#]);
    assert_eq!(dashboard.seen().fixes["truck-1"].lat_e7, 525_200_000);
    assert_eq!(program.end(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_is_told_and_sent_by_the_next_run() {
    let gateway = Gateway::start();
    let token = gateway.vehicle_token("truck-1");
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = "ws://127.0.0.1:9/v1";
    let mut program = Program::start(nowhere, &token, folder.path(), &["--linger", "0"]);
    for n in 0..20 {
        program.tell(&json!({ "event": { "topic": "trip", "text": n.to_string() } }).to_string());
    }
    assert_eq!(program.end(), 3, "they stay in the queue");

    // By SIGTERM as well.
    let mut program = Program::start(nowhere, &token, folder.path(), &[]);
    program.says("state");
    program.tell(r#"{"event":{"topic":"trip","text":"20"}}"#);
    program.says("queued");
    let pid = Pid::from_child(&program.process);
    kill_process(pid, Signal::TERM).expect("it runs");
    assert_eq!(program.wait().code(), Some(3));

    let program = Program::start(&gateway.url(), &token, folder.path(), &[]);
    assert_eq!(program.end(), 0);
    let dashboard = Dashboard::replay(&gateway, "me").await;
    eventually("all", || dashboard.seen().events.len() >= 21).await;
    let expected: Vec<_> = (0..21).map(|n| n.to_string()).collect();
    assert_eq!(dashboard.seen().texts_of("truck-1"), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_taken_over_ends_with_a_code_of_its_own() {
    let gateway = Gateway::start();
    let token = gateway.vehicle_token("truck-1");
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = Program::start(&gateway.url(), &token, folder.path(), &[]);
    while program.says("state")["name"] != "Connected" {}
    let vehicle = common::start(&gateway, gateway.folder(), "truck-1");
    common::connected(&vehicle).await;
    assert_eq!(program.wait().code(), Some(4));
}

#[test]
fn a_queue_that_another_process_has_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = Program::start("ws://127.0.0.1:9/v1", "token", folder.path(), &[]);
    first.says("state");
    let mut second = Program::start("ws://127.0.0.1:9/v1", "token", folder.path(), &[]);
    assert_eq!(second.wait().code(), Some(1));
}
