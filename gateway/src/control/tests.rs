use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::*;
use crate::audit::Audit;
use crate::config::Config;
use crate::limits::CONTROL_CONNECTIONS_MAX;
use crate::metrics::Metrics;
use crate::revocations::Keeper;
use crate::session::census::Census;
use crate::session::token::{IdBounds, Verifier};
use crate::session::trust::Trust;
use crate::state::GroupKeeper;

fn registry(shards: usize) -> Registry {
    let limits = Config::defaults().expect("defaults are good").limits;
    Metrics::new(shards).registry(&Arc::new(Census::new(&limits)))
}

/// A state that answers nothing.
fn nothing() -> ControlState {
    let config = Config::defaults().expect("defaults are good");
    let trust = Trust::new(Verifier::new(Vec::new(), &config.auth, &config.limits));
    let loaded = crate::revocations::load(None, None, &config.limits).expect("there is nothing");
    let keeper = Keeper::new(loaded, Arc::clone(&trust), Arc::default(), Arc::default());
    let fleet = crate::fleet::Fleet::new(&config.limits);
    ControlState {
        groups: admin::GroupCalls {
            keeper: Arc::new(GroupKeeper::load(Arc::clone(&fleet), Arc::default(), None)),
            fleet,
        },
        node: String::new(),
        health: Health::new(1, Duration::from_secs(1), Instant::now()),
        registry: Registry::default(),
        drain: Box::new(|_| false),
        reload: Box::new(Vec::new),
        admin: Admin::new(
            Arc::clone(&trust),
            Audit::off(),
            keeper,
            IdBounds::new(&config.limits),
            0,
            0,
        ),
        drain_needs_token: false,
        #[cfg(debug_assertions)]
        panic: Box::new(|_| false),
    }
}

fn start(shards: usize) -> (Handle, Arc<Health>) {
    let health = Health::new(shards, Duration::from_secs(3_600), Instant::now());
    let state = ControlState {
        node: "edge-7".to_owned(),
        health: Arc::clone(&health),
        registry: registry(shards),
        ..nothing()
    };
    let listen = "127.0.0.1:0".parse().expect("an address");
    (spawn(listen, Arc::new(state)).expect("a free port"), health)
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    exchange(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    )
}

/// The status line's number, and the whole answer.
fn exchange(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|number| number.parse().ok())
        .expect("a status");
    (status, answer)
}

#[test]
fn readiness_follows_the_shards() {
    let (control, health) = start(2);
    let (status, answer) = get(control.address(), "/readyz");
    assert_eq!(status, 503);
    assert!(
        answer.contains("\"ready\":false") && answer.contains("shard 0 is not listening yet"),
        "{answer}"
    );
    assert!(
        answer.contains("application/json") && answer.contains("edge-7"),
        "{answer}"
    );
    assert_eq!(get(control.address(), "/healthz").0, 200);

    health.listening(0);
    health.listening(1);
    let (status, answer) = get(control.address(), "/readyz");
    assert!(
        status == 200 && answer.contains("\"ready\":true"),
        "{answer}"
    );

    health.drain();
    let (status, answer) = get(control.address(), "/readyz");
    assert!(status == 503 && answer.contains("draining"), "{answer}");
    assert_eq!(get(control.address(), "/healthz").0, 200);
}

#[test]
fn a_silent_shard_fails_the_health_check() {
    let past = Instant::now()
        .checked_sub(Duration::from_secs(5))
        .expect("the machine is up for longer");
    let state = ControlState {
        node: "edge-7".to_owned(),
        health: Health::new(1, Duration::from_secs(1), past),
        registry: registry(1),
        ..nothing()
    };
    let control =
        spawn("127.0.0.1:0".parse().expect("an address"), Arc::new(state)).expect("a free port");
    let (status, answer) = get(control.address(), "/healthz");
    assert!(
        status == 503 && answer.contains("shard 0 has not reported"),
        "{answer}"
    );
}

#[test]
fn metrics_are_openmetrics() {
    let (control, _) = start(1);
    let (status, answer) = get(control.address(), "/metrics");
    assert_eq!(status, 200);
    assert!(answer.contains("application/openmetrics-text"), "{answer}");
    assert!(
        answer.contains("longhaul_connections_accepted_total 0"),
        "{answer}"
    );
}

#[test]
fn an_unknown_path_says_which_there_are() {
    let (control, _) = start(1);
    let (status, answer) = get(control.address(), "/metric");
    assert!(status == 404 && answer.contains("/metrics"), "{answer}");
}

#[test]
fn a_taken_address_says_which_setting_to_change() {
    let (control, _) = start(1);
    let state = nothing();
    let error = spawn(control.address(), Arc::new(state))
        .expect_err("it is taken")
        .to_string();
    assert!(
        error.contains("control.listen") && error.contains(&control.address().to_string()),
        "{error}"
    );
}

#[test]
fn a_huge_header_is_refused() {
    let (control, _) = start(1);
    let mut stream = TcpStream::connect(control.address()).expect("it listens");
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
        "y".repeat(20_000)
    );
    // It may answer and close before all is written.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
}

#[test]
fn connections_beyond_the_bound_wait_for_a_place() {
    let (control, _) = start(1);
    let mut waiting: Vec<_> = (0..CONTROL_CONNECTIONS_MAX)
        .map(|_| TcpStream::connect(control.address()).expect("it listens"))
        .collect();
    // Each has a place for certain once it was answered.
    for stream in &mut waiting {
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            .expect("it reads");
        assert_ne!(stream.read(&mut [0; 4096]).expect("it answers"), 0);
    }
    let mut late = TcpStream::connect(control.address()).expect("the backlog takes it");
    late.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("the kernel takes it");
    late.set_read_timeout(Some(Duration::from_millis(100)))
        .expect("a timeout");
    assert!(
        late.read(&mut [0; 1]).is_err(),
        "it was answered although every place was taken"
    );
    late.set_read_timeout(None).expect("no timeout");
    drop(waiting.pop());
    let mut answer = String::new();
    late.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn stopping_frees_the_address() {
    let (control, _) = start(1);
    let address = control.address();
    let idle = TcpStream::connect(address).expect("it listens");
    control.stop();
    assert!(TcpListener::bind(address).is_ok() || TcpStream::connect(address).is_err());
    drop(idle);
}

fn post(address: SocketAddr, path: &str, body: &str) -> (u16, String) {
    post_with(address, path, body, "Content-Type: application/json")
}

fn post_with(address: SocketAddr, path: &str, body: &str, header: &str) -> (u16, String) {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(address, &request)
}

#[test]
fn a_drain_is_passed_on_or_said_to_be_wrong() {
    let (orders, ordered) = std::sync::mpsc::channel();
    let state = ControlState {
        drain: Box::new(move |order| orders.send(order).is_ok()),
        ..nothing()
    };
    let control =
        spawn("127.0.0.1:0".parse().expect("an address"), Arc::new(state)).expect("a free port");
    assert_eq!(post(control.address(), "/drain", "").0, 202);
    assert_eq!(ordered.recv(), Ok(DrainOrder::default()));
    let body = r#"{"alternative":"wss://edge-2.example/v1","reason":"kernel update"}"#;
    assert_eq!(post(control.address(), "/drain", body).0, 202);
    let order = ordered.recv().expect("an order");
    assert_eq!(
        order.alternative.as_deref(),
        Some("wss://edge-2.example/v1")
    );
    assert_eq!(order.reason.as_deref(), Some("kernel update"));
    for (body, says) in [
        ("now", "expected"),
        (r#"{"when":"now"}"#, "unknown field `when`"),
        (r#"{"alternative":"edge-2"}"#, "does not begin with ws://"),
        (r#"{"reason":""}"#, "the text is empty"),
    ] {
        let (status, answer) = post(control.address(), "/drain", body);
        assert!(status == 400 && answer.contains(says), "{body}: {answer}");
    }
    let large = format!(r#"{{"reason":"{}"}}"#, "x".repeat(10_000));
    assert_eq!(post(control.address(), "/drain", &large).0, 413);
    for (header, status) in [
        ("Origin: http://evil.example", 403),
        ("Content-Type: text/plain", 415),
    ] {
        let said = post_with(control.address(), "/drain", r#"{"reason":"x"}"#, header);
        assert_eq!(said.0, status, "a web page: {header}");
    }
    assert_eq!(get(control.address(), "/drain").0, 405);
    assert!(ordered.try_recv().is_err(), "nothing wrong was passed on");
    drop(ordered);
    assert_eq!(post(control.address(), "/drain", "").0, 409);
}
