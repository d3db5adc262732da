//! Connections against the real gateway: positions, presence, takeover, drain, refusals, tokens, TLS.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Dashboard, Gateway, config, connected, eventually, reaches, start};
use longhaul_codec::PresenceState;
use longhaul_vehicle::{Event, Fix, State, StopReason, Token, TokenSource, Trust, Vehicle};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn fix(n: u64) -> Fix {
    Fix {
        time_ms: 1_767_225_600_000 + n * 1_000,
        lat_e7: 525_200_000 + n as i32,
        lon_e7: 134_050_000,
        ..Fix::default()
    }
}

#[tokio::test]
async fn positions_reach_a_dashboard_and_only_the_newest_waits() {
    let gateway = Gateway::start();
    let dashboard = Dashboard::open(&gateway, "me", &["positions", "presence"]).await;
    let vehicle = start(&gateway, gateway.folder(), "truck-1");
    // Before there is a connection.
    for n in 0..100 {
        vehicle.report(fix(n)).expect("a place on earth");
    }
    connected(&vehicle).await;
    eventually("the newest position", || {
        dashboard
            .seen()
            .fixes
            .get("truck-1")
            .map(|seen| seen.time_ms)
            == Some(fix(99).time_ms)
    })
    .await;
    assert!(vehicle.counters().positions_replaced > 90);
    for n in 100..120 {
        vehicle.report(fix(n)).expect("a place on earth");
        let is_there = || {
            let seen = dashboard.seen();
            seen.fixes["truck-1"].lat_e7 == fix(n).lat_e7
        };
        eventually("each position", is_there).await;
    }
    assert_eq!(vehicle.close(Duration::ZERO).await, 0);
    eventually("offline", || {
        dashboard.seen().presence.get("truck-1") == Some(&PresenceState::Offline)
    })
    .await;
    assert_eq!(vehicle.stopped(), Some(StopReason::Closed));
}

#[tokio::test]
async fn a_takeover_is_the_end() {
    let gateway = Gateway::start();
    let first = start(&gateway, gateway.folder(), "truck-1");
    connected(&first).await;
    let elsewhere = tempfile::tempdir().expect("a folder");
    let second = start(&gateway, elsewhere.path(), "truck-1");
    connected(&second).await;
    let stopped = |state: &State| {
        let why = StopReason::TakenOver(String::new());
        matches!(state, State::Stopped { why: is } if std::mem::discriminant(is) == std::mem::discriminant(&why))
    };
    reaches(&first, "taken over", stopped).await;
    // What is published now is safe, and left for the next one.
    first
        .publish(Event::new("door"))
        .await
        .expect("there is room");
    assert_eq!(first.close(Duration::from_secs(600)).await, 1);
    connected(&second).await;
}

#[tokio::test]
async fn a_drain_moves_the_vehicle_without_a_gap() {
    let old = Gateway::start_with(&["--set", "drain.window_ms=4000", "--set", "drain.grace_ms=0"]);
    // The other gateway knows the same key.
    let key = std::fs::read(old.folder().join("key")).expect("the key is there");
    let new = Gateway::start();
    std::fs::write(new.folder().join("key"), &key).expect("the folder takes it");
    let new = new.restart(&[]);
    let old = old.restart(&[
        "--set",
        "drain.window_ms=4000",
        "--set",
        "drain.grace_ms=0",
        "--set",
        &format!("drain.alternative={}", new.url()),
    ]);
    let vehicle = start(&old, old.folder(), "truck-1");
    connected(&vehicle).await;
    let mut states = vehicle.state();
    let seen = tokio::spawn(async move {
        let mut seen = Vec::new();
        while states.changed().await.is_ok() {
            let state = states.borrow_and_update().clone();
            seen.push(state.clone());
            if matches!(state, State::Connected { .. }) {
                break;
            }
        }
        seen
    });
    let dashboard = Dashboard::open(&new, "me", &["positions"]).await;
    old.signal(Signal::TERM);
    let seen = tokio::time::timeout(common::PATIENCE, seen);
    let seen = seen.await.expect("it moves").expect("it looks on");
    assert!(
        matches!(seen.as_slice(), [State::Draining, State::Connected { .. }]),
        "{seen:?}"
    );
    vehicle.report(fix(1)).expect("a place on earth");
    eventually("a position at the other gateway", || {
        dashboard.seen().fixes.contains_key("truck-1")
    })
    .await;
}

#[tokio::test]
async fn a_killed_gateway_is_come_back_to() {
    let gateway = Gateway::start();
    let vehicle = start(&gateway, gateway.folder(), "truck-1");
    connected(&vehicle).await;
    let gateway = gateway.restart(&[]);
    reaches(&vehicle, "back", |state| {
        matches!(state, State::Connected { .. }) && vehicle.counters().reconnects == 1
    })
    .await;
    drop(gateway);
    reaches(&vehicle, "waiting", |state| {
        matches!(state, State::Waiting { .. })
    })
    .await;
}

/// Answers every connection with these bytes. Gives the URL and the times at which connections came.
async fn answers(answer: &'static str) -> (String, Arc<std::sync::Mutex<Vec<Instant>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("ws://{}/v1", listener.local_addr().expect("it has one"));
    let times = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&times);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            noted.lock().expect("no panic").push(Instant::now());
            let mut request = [0; 4_096];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    (url, times)
}

#[tokio::test]
async fn retry_after_is_kept_exactly() {
    let (url, times) = answers(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 4\r\n\r\nfull",
    )
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let (vehicle, _commands) =
        Vehicle::start(config(&url, "token", folder.path(), "truck-1")).expect("it starts");
    let waiting = reaches(&vehicle, "waiting", |state| {
        matches!(state, State::Waiting { .. })
    });
    let State::Waiting { why, .. } = waiting.await else {
        unreachable!("it waits")
    };
    assert!(why.contains("503") && why.contains("full"), "{why}");
    eventually("three attempts", || {
        times.lock().expect("no panic").len() >= 3
    })
    .await;
    let times = times.lock().expect("no panic").clone();
    for pair in times.windows(2) {
        let between = pair[1] - pair[0];
        assert!(between >= Duration::from_millis(990), "{between:?}");
        assert!(
            between < Duration::from_millis(1_900),
            "nothing is added: {between:?}"
        );
    }
}

#[tokio::test]
async fn the_gateways_own_refusal_is_understood() {
    // One connection may be there, and it is.
    let gateway = Gateway::start_with(&["--set", "limits.connections_max=1"]);
    let first = start(&gateway, gateway.folder(), "truck-1");
    connected(&first).await;
    let second = start(&gateway, gateway.folder(), "truck-2");
    let refused = |state: &State| matches!(state, State::Waiting { why, .. } if why.contains("503") || why.contains("429"));
    let State::Waiting { until, .. } = reaches(&second, "refused", refused).await else {
        unreachable!("it waits")
    };
    let wait = until.saturating_duration_since(Instant::now());
    assert!(
        wait > Duration::from_millis(500),
        "as the gateway says: {wait:?}"
    );
}

#[tokio::test]
async fn a_refused_token_is_asked_for_again_and_a_new_one_taken() {
    let gateway = Gateway::start();
    let good = gateway.vehicle_token("truck-1");
    let asked = Arc::new(AtomicUsize::new(0));
    let mut config = config(&gateway.url(), &good, gateway.folder(), "truck-1");
    config.tokens = TokenSource::new({
        let asked = Arc::clone(&asked);
        move || {
            let text = match asked.fetch_add(1, Ordering::Relaxed) {
                0 => Err("the service is not there yet".to_owned()),
                1..4 => Ok("not.a.token".to_owned()),
                _ => Ok(good.clone()),
            };
            async move { Token::new(&text?).map_err(|error| error.to_string()) }
        }
    });
    let (vehicle, _commands) = Vehicle::start(config).expect("it starts");
    connected(&vehicle).await;
    assert_eq!(asked.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn a_token_is_exchanged_before_it_ends_and_nobody_sees_the_vehicle_leave() {
    let gateway = Gateway::start_with(&["--set", "auth.leeway_s=0"]);
    let dashboard = Dashboard::open(&gateway, "me", &["presence"]).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let tokens: Vec<_> = ["10s", "20s", "60s"]
        .map(|ttl| gateway.token("vehicle", "truck-1", ttl, &[]))
        .into();
    let mut config = config(&gateway.url(), "none", gateway.folder(), "truck-1");
    config.tokens = TokenSource::new({
        let asked = Arc::clone(&asked);
        move || {
            let next = asked.fetch_add(1, Ordering::Relaxed).min(2);
            std::future::ready(Token::new(&tokens[next]).map_err(|error| error.to_string()))
        }
    });
    let (vehicle, _commands) = Vehicle::start(config).expect("it starts");
    connected(&vehicle).await;
    eventually("two more tokens", || vehicle.counters().renewals == 2).await;
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    assert_eq!(vehicle.counters().reconnects, 0, "all on one connection");
    connected(&vehicle).await;
    assert!(dashboard.seen().went_offline.is_empty());
}

#[tokio::test]
async fn an_expired_token_is_not_used_again() {
    let gateway = Gateway::start_with(&["--set", "auth.leeway_s=0"]);
    let (short, long) = (
        gateway.token("vehicle", "truck-1", "6s", &[]),
        gateway.token("vehicle", "truck-1", "60s", &[]),
    );
    let asked = Arc::new(AtomicUsize::new(0));
    let mut config = config(&gateway.url(), "none", gateway.folder(), "truck-1");
    config.tokens = TokenSource::new({
        let asked = Arc::clone(&asked);
        move || {
            // The same one comes again for a while.
            let first = asked.fetch_add(1, Ordering::Relaxed) < 12;
            let text = if first { &short } else { &long };
            std::future::ready(Token::new(text).map_err(|error| error.to_string()))
        }
    });
    let (vehicle, _commands) = Vehicle::start(config).expect("it starts");
    connected(&vehicle).await;
    eventually("the new token", || {
        asked.load(Ordering::Relaxed) > 12 && vehicle.counters().reconnects >= 1
    })
    .await;
    connected(&vehicle).await;
}

#[tokio::test]
async fn a_gateway_that_falls_silent_is_noticed() {
    // Lets in, by a real gateway, and then says nothing more.
    let gateway = Gateway::start_with(&["--set", "connection.heartbeat_ms=1000"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("ws://{}/v1", listener.local_addr().expect("it has one"));
    let target = gateway.listen();
    let silent = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let passes = Arc::clone(&silent);
    tokio::spawn(async move {
        while let Ok((mut vehicle, _)) = listener.accept().await {
            let passes = Arc::clone(&passes);
            tokio::spawn(async move {
                let mut gateway = tokio::net::TcpStream::connect(target)
                    .await
                    .expect("it listens");
                let until_silent = async {
                    while !passes.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut vehicle, &mut gateway) => {}
                    () = until_silent => std::future::pending().await,
                }
            });
        }
    });
    let token = gateway.vehicle_token("truck-1");
    let mut config = config(&url, &token, gateway.folder(), "truck-1");
    config.pong_within = Duration::from_millis(500);
    let (vehicle, _commands) = Vehicle::start(config).expect("it starts");
    connected(&vehicle).await;
    // Idle for several heartbeats, in which the gateway and the vehicle ask each other.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(vehicle.counters().reconnects, 0);
    silent.store(true, Ordering::Relaxed);
    let waits = |state: &State| matches!(state, State::Waiting { why, .. } if why.contains("ping"));
    reaches(&vehicle, "a dead link", waits).await;
}

#[tokio::test]
async fn wss_works_with_a_ca_of_ones_own_and_refuses_others() {
    let gateway = Gateway::start();
    let (url, ca) = tls_in_front_of(&gateway).await;
    let token = gateway.vehicle_token("truck-1");
    let file = gateway.folder().join("ca.pem");
    std::fs::write(&file, ca).expect("it is written");
    let mut trusting = config(&url, &token, gateway.folder(), "truck-1");
    trusting.trust = Trust::File(file);
    let (vehicle, _commands) = Vehicle::start(trusting).expect("it starts");
    connected(&vehicle).await;
    vehicle.close(Duration::ZERO).await;

    // The system's authorities do not know this one; some systems have none at all.
    let wary = config(&url, &token, gateway.folder(), "truck-1");
    let (vehicle, _commands) = Vehicle::start(wary).expect("it starts");
    let refuses = |state: &State| matches!(state, State::Waiting { why, .. } if why.contains("TLS") || why.contains("authorities"));
    reaches(&vehicle, "refusing", refuses).await;
}

/// A TLS proxy in front of a gateway, as in production. Gives the URL, and the certificate as PEM.
async fn tls_in_front_of(gateway: &Gateway) -> (String, String) {
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::aws_lc_rs;
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;

    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("it is made");
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("there are some")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("they fit");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("it has one").port();
    let target = gateway.listen();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(socket).await else {
                    return;
                };
                let gateway = tokio::net::TcpStream::connect(target).await;
                let mut gateway = gateway.expect("it listens");
                let _ = tokio::io::copy_bidirectional(&mut tls, &mut gateway).await;
            });
        }
    });
    let base64 = data_encoding::BASE64.encode(made.cert.der());
    let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
    (format!("wss://localhost:{port}/v1"), pem)
}
