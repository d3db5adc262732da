//! Who may do what to whom: role × action × resource, each cell over real connections.
//!
//! There are two fleets. `demo` has the vehicles v1, of the group "night", and v2; `other` has a v1 of its own, and v3. Each
//! row is a bearer; each column something that it tries. What it hears is held against what it may hear, so that a cell
//! that says "no" also shows that nothing comes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use longhaul_codec::{
    Ack, AckKind, Authenticate, Command, CommandResult, ErrorCode, Event, Message, Position,
    PositionBatch, Subscribe,
};
use serde_json::{Value, json};

use crate::common::client::{Client, fix};
use crate::common::eventually;
use crate::common::gateway::{FLEET, Gateway};
use crate::common::http::{admin, dial, upgrade};

mod common;

/// The fleet that nobody of [`FLEET`] is to hear anything of.
const OTHER: &str = "other";

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

/// A gateway, and the vehicles of two fleets.
struct World {
    gateway: Gateway,
    _events: tempfile::TempDir,
    vehicles: Vec<Client>,
    clock: u32,
}

impl World {
    fn new() -> World {
        let events = tempfile::tempdir().expect("a folder");
        let directory = format!("events.directory={}", events.path().join("log").display());
        let settings = ["--set", &directory, "--set", "events.free_bytes_min=0"];
        let gateway = Gateway::start_with(2, &settings);
        let mut world = World {
            gateway,
            _events: events,
            vehicles: Vec::new(),
            clock: 1,
        };
        for (fleet, id, groups) in [
            (FLEET, "v1", json!(["night"])),
            (FLEET, "v2", json!([])),
            (OTHER, "v1", json!(["night"])),
            (OTHER, "v3", json!([])),
        ] {
            let token =
                world.sign(json!({"role": "vehicle", "sub": id, "fleet": fleet, "groups": groups}));
            world.vehicles.push(Client::connect(&world.gateway, &token));
        }
        world
    }

    fn secret(&self) -> Vec<u8> {
        let secret = std::fs::read(self.gateway.key()).expect("the key is there");
        secret.strip_suffix(b"\n").unwrap_or(&secret).to_vec()
    }

    /// A token with these claims, and what every token has.
    fn sign(&self, claims: Value) -> String {
        self.sign_with(claims, &Header::new(Algorithm::HS256), &self.secret())
    }

    fn sign_with(&self, mut claims: Value, header: &Header, secret: &[u8]) -> String {
        let all = claims.as_object_mut().expect("claims");
        all.entry("exp").or_insert(json!(now() + 600));
        all.entry("iat").or_insert(json!(now()));
        encode(header, &claims, &EncodingKey::from_secret(secret)).expect("it signs")
    }

    /// The bearers, by name. Each call is a fresh token.
    fn bearer(&self, name: &str) -> String {
        let read = |grant: Value| json!({"role": "dashboard", "sub": name, "fleet": FLEET, "grants": [grant]});
        self.sign(match name {
            "desk" => json!({"role": "dashboard", "sub": name, "fleet": FLEET}),
            "dispatcher" => {
                json!({"role": "dashboard", "sub": name, "fleet": FLEET, "may": ["command"]})
            }
            "customer" => read(json!({"vehicles": ["v1"]})),
            "team" => read(json!({"groups": ["night"]})),
            "team lead" => read(json!({"groups": ["night"], "may": ["read", "command"]})),
            "counter" => read(json!({"fleet": true, "topics": ["presence"]})),
            "orders only" => read(json!({"vehicles": ["v1"], "may": ["command"]})),
            "nobody" => json!({"role": "dashboard", "sub": name, "fleet": FLEET, "grants": []}),
            "neighbour" => {
                json!({"role": "dashboard", "sub": name, "fleet": OTHER, "may": ["command"]})
            }
            "vehicle" => json!({"role": "vehicle", "sub": "v9", "fleet": FLEET}),
            "quiet vehicle" => json!({"role": "vehicle", "sub": "v8", "fleet": FLEET,
                "grants": [{"fleet": true, "topics": ["positions"], "may": ["publish"]}]}),
            "thermometer" => json!({"role": "vehicle", "sub": "v7", "fleet": FLEET,
                "grants": [{"fleet": true, "topics": ["temperature"], "may": ["publish"]}]}),
            other => panic!("who is {other}?"),
        })
    }

    /// A number that nothing else has.
    fn number(&mut self) -> u64 {
        self.clock += 1;
        u64::from(self.clock)
    }

    /// Every vehicle reports once.
    fn report(&mut self) {
        self.clock += 1;
        for vehicle in &mut self.vehicles {
            vehicle.report(fix(self.clock));
        }
        for vehicle in &mut self.vehicles {
            vehicle.drain();
        }
    }
}

/// What is tried.
#[derive(Debug, Clone, Copy)]
enum Try {
    /// Subscribe to positions of a vehicle, a group or the whole fleet.
    Watch(&'static str),
    Group(&'static str),
    Fleet,
    /// Subscribe to a topic of the whole fleet.
    Topic(&'static str),
    /// A command for a vehicle.
    Order(&'static str),
    /// Report a position, alone, in a batch, or as somebody else.
    Report,
    Reports,
    ReportAs(&'static str),
    /// Publish an event on a topic.
    Publish(&'static str, u8),
    /// What the other role says.
    Answer,
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// It is taken, and these vehicles' positions are heard.
    Hears(Vec<String>),
    /// It is taken.
    Taken,
    /// It is refused.
    Refused(ErrorCode),
}

fn hears(ids: &[&str]) -> Outcome {
    Outcome::Hears(ids.iter().map(|id| (*id).to_owned()).collect())
}

const NO: Outcome = Outcome::Refused(ErrorCode::NotAllowed);

impl World {
    /// Tries it as this bearer, on a connection of its own.
    fn attempt(&mut self, who: &str, what: Try) -> Outcome {
        let token = self.bearer(who);
        let mut client = Client::connect(&self.gateway, &token);
        let subscribe = Subscribe {
            request: 7,
            ..Subscribe::default()
        };
        let ids = |id: &str| vec![id.to_owned()];
        let message: Message = match what {
            Try::Watch(id) => Subscribe {
                vehicles: ids(id),
                ..subscribe
            }
            .into(),
            Try::Group(name) => Subscribe {
                groups: ids(name),
                ..subscribe
            }
            .into(),
            Try::Fleet => Subscribe {
                whole_fleet: true,
                ..subscribe
            }
            .into(),
            Try::Topic(name) => Subscribe {
                whole_fleet: true,
                topics: ids(name),
                ..subscribe
            }
            .into(),
            Try::Order(id) => Command {
                command_id: self.number(),
                vehicle_id: Some(id.to_owned()),
                name: "honk".to_owned(),
                ttl_ms: 60_000,
                ..Command::default()
            }
            .into(),
            Try::Report => Position {
                fix: fix(1),
                vehicle_id: None,
            }
            .into(),
            Try::Reports => PositionBatch {
                fixes: vec![fix(2), fix(3)],
                vehicle_id: None,
            }
            .into(),
            Try::ReportAs(id) => Position {
                fix: fix(4),
                vehicle_id: Some(id.to_owned()),
            }
            .into(),
            Try::Publish(topic, qos) => Event {
                topic: topic.to_owned(),
                qos,
                message_id: u64::from(qos),
                time_ms: 1,
                ..Event::default()
            }
            .into(),
            Try::Answer => CommandResult {
                command_id: 1,
                ..CommandResult::default()
            }
            .into(),
        };
        client.send(&message);
        let answers = self.answers(&mut client, what);
        let refused = answers.iter().find_map(|answer| match answer {
            Message::Error(error) => Some(error.code),
            _ => None,
        });
        let watches = matches!(
            what,
            Try::Watch(_) | Try::Group(_) | Try::Fleet | Try::Topic(_)
        );
        let heard = if watches {
            self.heard(&mut client, answers)
        } else {
            BTreeSet::new()
        };
        match refused {
            Some(code) => {
                assert!(
                    heard.is_empty(),
                    "{who} {what:?}: refused, and yet it hears {heard:?}"
                );
                Outcome::Refused(code)
            }
            None if watches => Outcome::Hears(heard.into_iter().collect()),
            None => Outcome::Taken,
        }
    }

    /// What comes back at once. An event or a command that must last is answered when it does.
    fn answers(&mut self, client: &mut Client, what: Try) -> Vec<Message> {
        let mut answers = client.drain();
        let is_answered = |answers: &[Message]| {
            answers
                .iter()
                .any(|answer| matches!(answer, Message::Ack(_) | Message::Error(_)))
        };
        if matches!(what, Try::Publish(_, 1) | Try::Order(_)) {
            eventually("it is answered", || {
                answers.extend(client.drain());
                is_answered(&answers)
            });
        }
        answers
    }

    /// Whose positions reach it while everybody reports.
    fn heard(&mut self, client: &mut Client, answers: Vec<Message>) -> BTreeSet<String> {
        let mut said = answers;
        // One that may hear everything of each fleet: what it has heard has been everywhere.
        let mut all = Client::connect(&self.gateway, &self.bearer("desk"));
        all.subscribe(Subscribe {
            request: 1,
            whole_fleet: true,
            ..Subscribe::default()
        });
        for _ in 0..3 {
            self.report();
            let time_ms = fix(self.clock).time_ms;
            let mut seen = BTreeSet::new();
            while seen.len() < 2 {
                let fixes = all.positions();
                seen.extend(
                    fixes
                        .into_iter()
                        .filter(|(_, fix)| fix.time_ms == time_ms)
                        .map(|(id, _)| id)
                        .filter(|id| id == "v1" || id == "v2"),
                );
            }
            said.extend(client.drain());
        }
        let mut names = BTreeMap::new();
        let mut heard = BTreeSet::new();
        for message in &said {
            match message {
                Message::Names(all) => names.extend(all.vehicles.iter().zip(&all.ids)),
                Message::Positions(positions) => {
                    heard.extend(positions.fixes.iter().map(|fix| {
                        let name = names.get(&fix.vehicle);
                        (*name.expect("names come before positions")).clone()
                    }));
                }
                _ => {}
            }
        }
        // Those of other rows that have reported, too.
        heard.retain(|id| ["v1", "v2", "v3"].contains(&id.as_str()));
        heard
    }
}

#[test]
fn every_bearer_hears_and_does_what_it_may_and_nothing_else() {
    use Try::{Answer, Fleet, Group, Order, Publish, Report, ReportAs, Reports, Topic, Watch};
    let mut world = World::new();
    world.report();
    let both = || hears(&["v1", "v2"]);
    let wrong = || Outcome::Refused(ErrorCode::WrongIdentity);
    let unknown = || Outcome::Refused(ErrorCode::UnknownVehicle);
    #[rustfmt::skip]
    let table: Vec<(&str, Vec<(Try, Outcome)>)> = vec![
        // Ahead of those who ask for v3: whom a dashboard has asked for may come one day, and be sent what waits.
        ("dispatcher", vec![
            (Fleet, both()), (Order("v1"), Outcome::Taken), (Order("v2"), Outcome::Taken), (Order("v3"), unknown()),
        ]),
        ("desk", vec![
            (Fleet, both()), (Watch("v1"), hears(&["v1"])), (Watch("v2"), hears(&["v2"])),
            (Group("night"), hears(&["v1"])), (Group("no such group"), hears(&[])),
            // A vehicle of another fleet is one that this fleet does not have.
            (Watch("v3"), hears(&[])),
            (Topic("positions"), both()), (Topic("presence"), hears(&[])), (Topic("events"), hears(&[])),
            (Order("v1"), NO), (Report, NO), (Reports, NO), (Publish("door", 0), NO), (Publish("door", 1), NO), (Answer, NO),
        ]),
        ("customer", vec![
            (Fleet, hears(&["v1"])), (Watch("v1"), hears(&["v1"])), (Watch("v2"), NO), (Watch("v3"), NO),
            (Group("night"), NO), (Order("v1"), NO), (Order("v2"), NO), (Report, NO),
        ]),
        ("team", vec![
            (Fleet, hears(&["v1"])), (Group("night"), hears(&["v1"])), (Group("day"), NO), (Watch("v2"), NO),
            (Order("v1"), NO),
        ]),
        ("team lead", vec![
            (Fleet, hears(&["v1"])), (Order("v1"), Outcome::Taken), (Order("v2"), NO), (Order("v3"), NO),
        ]),
        ("counter", vec![
            (Topic("presence"), hears(&[])), (Topic("positions"), NO), (Topic("events"), NO), (Fleet, NO), (Order("v1"), NO),
        ]),
        ("orders only", vec![
            (Fleet, NO), (Watch("v1"), NO), (Order("v1"), Outcome::Taken), (Order("v2"), NO),
        ]),
        ("nobody", vec![(Fleet, NO), (Watch("v1"), NO), (Group("night"), NO), (Topic("presence"), NO), (Order("v1"), NO)]),
        ("neighbour", vec![
            // Before anybody there has asked for it: whom a dashboard has asked for may come one day.
            (Order("v2"), unknown()), (Fleet, hears(&["v1", "v3"])), (Group("night"), hears(&["v1"])), (Watch("v2"), hears(&[])),
        ]),
        ("vehicle", vec![
            (Report, Outcome::Taken), (Reports, Outcome::Taken), (ReportAs("v9"), Outcome::Taken), (ReportAs("v1"), wrong()),
            (Publish("door", 0), Outcome::Taken), (Publish("door", 1), Outcome::Taken),
            (Fleet, NO), (Watch("v9"), NO), (Order("v9"), NO),
        ]),
        ("quiet vehicle", vec![
            (Report, Outcome::Taken), (Reports, Outcome::Taken), (Publish("door", 0), NO), (Publish("door", 1), NO),
            (Publish("temperature", 1), NO), (Fleet, NO),
        ]),
        ("thermometer", vec![
            (Report, NO), (Reports, NO), (Publish("temperature", 0), Outcome::Taken), (Publish("temperature", 1), Outcome::Taken),
            (Publish("door", 1), NO),
        ]),
    ];
    let mut wrong = Vec::new();
    for (who, row) in table {
        for (what, expected) in row {
            let came = world.attempt(who, what);
            if came != expected {
                wrong.push(format!("{who} {what:?}: {came:?}, not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The status that an upgrade with this token gets.
fn knock(world: &World, token: &str) -> u16 {
    use std::io::{Read, Write};
    let mut stream = dial(world.gateway.listen());
    stream
        .write_all(upgrade(token).as_bytes())
        .expect("it is sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    let text = String::from_utf8_lossy(&answer).into_owned();
    text[9..12].parse().expect("a status")
}

#[test]
fn a_token_is_good_or_it_is_not() {
    let world = World::new();
    let vehicle = || json!({"role": "vehicle", "sub": "v9", "fleet": FLEET});
    let with = |name: &str, value: Value| {
        let mut claims = vehicle();
        claims[name] = value;
        world.sign(claims)
    };
    let header = |algorithm| Header::new(algorithm);
    let mut of_a_key = header(Algorithm::HS256);
    of_a_key.kid = Some("no such key".to_owned());
    let good = world.sign(vehicle());
    let parts: Vec<&str> = good.split('.').collect();
    let forge = |part: &str, text: &str| {
        let mut parts = parts.clone();
        let other = data(text);
        let at = ["header", "claims", "signature"]
            .iter()
            .position(|name| *name == part)
            .expect("a part");
        parts[at] = &other;
        parts.join(".")
    };
    let claims = |role: &str, sub: &str| {
        format!(
            "{{\"role\":\"{role}\",\"sub\":\"{sub}\",\"fleet\":\"{FLEET}\",\"exp\":{}}}",
            now() + 600
        )
    };
    for (what, token, expected) in [
        ("good", good.clone(), 101),
        (
            "of a key that is not ours",
            world.sign_with(vehicle(), &header(Algorithm::HS256), &[7; 48]),
            401,
        ),
        (
            "of another algorithm",
            world.sign_with(vehicle(), &header(Algorithm::HS384), &world.secret()),
            401,
        ),
        (
            "of no algorithm",
            forge("header", r#"{"alg":"none","typ":"JWT"}"#),
            401,
        ),
        (
            "of no algorithm, unsigned",
            format!("{}.{}.", data(r#"{"alg":"none"}"#), parts[1]),
            401,
        ),
        (
            "with another's name",
            forge("claims", &claims("vehicle", "v1")),
            401,
        ),
        (
            "with another role",
            forge("claims", &claims("operator", "v9")),
            401,
        ),
        (
            "with another signature",
            forge("signature", "01234567890123456789012345678901"),
            401,
        ),
        ("without its end", good[..good.len() - 2].to_owned(), 401),
        ("expired", with("exp", json!(now() - 3_600)), 401),
        ("not yet valid", with("nbf", json!(now() + 3_600)), 401),
        ("of no role", with("role", json!("admin")), 401),
        ("of no fleet", with("fleet", json!("")), 401),
        ("with a control character", with("sub", json!("v\n9")), 401),
        (
            "an operator's",
            world.sign(json!({"role": "operator", "sub": "ada", "jti": "1"})),
            403,
        ),
        // A key that is configured without a kid is for tokens of any kid.
        (
            "of a kid that nobody has",
            world.sign_with(vehicle(), &of_a_key, &world.secret()),
            101,
        ),
    ] {
        assert_eq!(knock(&world, &token), expected, "{what}");
    }
}

fn data(text: &str) -> String {
    data_encoding::BASE64URL_NOPAD.encode(text.as_bytes())
}

#[test]
fn what_ends_while_somebody_is_connected_ends() {
    let world = World::new();
    let desk = |more: Value| {
        let mut claims = json!({"role": "dashboard", "sub": "ada", "fleet": FLEET, "jti": "t-1"});
        for (name, value) in more.as_object().expect("claims") {
            claims[name] = value.clone();
        }
        world.sign(claims)
    };
    // A token that ends. The gateway allows for clocks that disagree by 30 s: it ends in a moment.
    let mut client = Client::connect(&world.gateway, &desk(json!({"exp": now() - 28})));
    assert_eq!(client.closed().0, 4501, "expired");
    // A grant that ends, and with it the last reason to be here.
    let ends = json!({"grants": [{"fleet": true, "until": now() + 2}]});
    let mut client = Client::connect(&world.gateway, &desk(ends));
    assert_eq!(client.closed().0, 4501, "the last grant has ended");
    // Revoked: the token, its subject, its fleet, everybody.
    for (n, entry) in [
        json!({"token_id": "t-0"}),
        json!({"fleet": "f-1", "subject": "u-1"}),
        json!({"fleet": "f-2"}),
        json!({"all": true}),
    ]
    .into_iter()
    .enumerate()
    {
        let token = world.sign(
            json!({"role": "dashboard", "sub": format!("u-{n}"), "fleet": format!("f-{n}"),
            "jti": format!("t-{n}")}),
        );
        let mut client = Client::connect(&world.gateway, &token);
        let operator = world.gateway.operator_token(None);
        let revoke = || {
            let (control, body) = (world.gateway.control(), entry.to_string());
            admin(
                control,
                "POST",
                "/admin/revocations",
                Some(&operator),
                &body,
            )
        };
        let answer = revoke();
        assert_eq!(answer.status, 200, "{entry}: {answer:?}");
        assert_eq!(client.closed().0, 4503, "{entry}");
        assert_eq!(knock(&world, &token), 401, "{entry}: it does not come back");
        // The same call again is refused: its token is spent, or revoked itself.
        let again = revoke();
        assert!([401, 409].contains(&again.status), "{again:?}");
    }
}

#[test]
fn a_fresh_token_in_place_is_its_bearers_own() {
    let world = World::new();
    let claims = |more: Value| {
        let mut claims = json!({"role": "dashboard", "sub": "ada", "fleet": FLEET});
        for (name, value) in more.as_object().expect("claims") {
            claims[name] = value.clone();
        }
        world.sign(claims)
    };
    // A connection may try a few times a minute: each of these has its own, and its token is good to the end.
    let renew = |token: String| {
        let mut client = Client::connect(&world.gateway, &claims(json!({})));
        client.send(&Message::Authenticate(Authenticate { request: 5, token }));
        let answers = client.drain();
        client.subscribe(common::client::watch_all(6));
        match answers.as_slice() {
            [
                Message::Ack(Ack {
                    kind: AckKind::Authenticate,
                    id: 5,
                    ..
                }),
            ] => None,
            [Message::Error(error)] if error.id == 5 => Some(error.code),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(renew(claims(json!({}))), None, "its own");
    for (what, more) in [
        ("another user's", json!({"sub": "bob"})),
        ("another fleet's", json!({"fleet": OTHER})),
        ("a vehicle's", json!({"role": "vehicle"})),
    ] {
        assert_eq!(
            renew(claims(more)),
            Some(ErrorCode::WrongIdentity),
            "{what}"
        );
    }
    for (what, token) in [
        ("an operator's", claims(json!({"role": "operator"}))),
        ("an expired one", claims(json!({"exp": now() - 3_600}))),
        (
            "a stranger's",
            world.sign_with(
                json!({"role": "dashboard", "sub": "ada", "fleet": FLEET}),
                &Header::new(Algorithm::HS256),
                &[7; 48],
            ),
        ),
        ("none at all", "x".to_owned()),
    ] {
        assert_eq!(renew(token), Some(ErrorCode::NotAllowed), "{what}");
    }
}
