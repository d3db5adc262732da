//! Who may do what to whom: role × action × resource, each cell over real connections.
//!
//! There are two fleets. `demo` has the vehicles v1, of the group "night", and v2; `other` has a v1 of its own, and v3. Each
//! row is a bearer; each column something that it tries. What it hears is held against what it may hear, so that a cell
//! that says "no" also shows that nothing comes.
//!
//! - `attempts.rs`: the table of bearers and of what they try
//! - `tokens.rs`: which tokens are good, and for how long

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::common::{
    client::{Client, fix},
    gateway::{FLEET, Gateway},
};

mod attempts;
#[path = "../common/mod.rs"]
mod common;
mod tokens;

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
