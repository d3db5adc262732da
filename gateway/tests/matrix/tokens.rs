//! Which tokens are good, and for how long: the way in, and what a token, a grant and a revocation end.

use jsonwebtoken::{Algorithm, Header};
use longhaul_codec::{Ack, AckKind, Authenticate, ErrorCode, Message};
use serde_json::{Value, json};

use crate::{
    OTHER, World,
    common::{
        client::{Client, watch_all},
        gateway::FLEET,
        http::{admin, dial, upgrade},
    },
    now,
};

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
        client.subscribe(watch_all(6));
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
