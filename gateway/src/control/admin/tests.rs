use axum::http::{HeaderMap, HeaderValue, Method, header};

use super::*;
use crate::{
    config::Config,
    session::{
        keys::{Key, SigningKey},
        mint::{Bearer, NewToken, mint},
        token::{IdBounds, Verifier},
    },
};

const SECRET: [u8; 32] = [7; 32];
const NOW: u64 = 1_800_000_000;

fn admin() -> Admin {
    let config = Config::defaults().expect("defaults are good");
    let key = Key::hs256(&SECRET, None).expect("a key");
    let verifier = Verifier::new(vec![key], &config.auth, &config.limits);
    let trust = Trust::new(verifier);
    let loaded =
        crate::revocations::load(None, None, &config.limits).expect("there is nothing to load");
    let keeper = Keeper::new(loaded, Arc::clone(&trust), Arc::default(), Arc::default());
    Admin::new(
        trust,
        Audit::off(),
        keeper,
        IdBounds::new(&config.limits),
        30,
        NOW - 300,
    )
}

fn token(role: Bearer, fleet: Option<&str>, issued: u64, seconds: u64) -> String {
    let config = Config::defaults().expect("defaults are good");
    let token = NewToken {
        role,
        fleet: fleet.map(str::to_owned),
        subject: "ada".to_owned(),
        issued_unix: issued,
        expires_unix: issued + seconds,
        kid: None,
        issuer: None,
        audience: None,
        may: Vec::new(),
        groups: Vec::new(),
        grants: None,
    };
    let key = SigningKey::hs256(&SECRET).expect("a key");
    mint(&key, &token, IdBounds::new(&config.limits)).expect("a token")
}

fn bearing(token: &str) -> HeaderMap {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).expect("a token is plain");
    HeaderMap::from_iter([(header::AUTHORIZATION, value)])
}

/// The status of a call; 0: it is let through.
fn status(admin: &Admin, method: &Method, headers: &HeaderMap) -> u16 {
    match admit(admin, method, headers) {
        Ok(_) => 0,
        Err(error) => error.status.as_u16(),
    }
}

fn admit(admin: &Admin, method: &Method, headers: &HeaderMap) -> Result<Caller, AdminError> {
    let operator = admin.check(headers, NOW).map_err(|(error, _)| error)?;
    if !method.is_safe() {
        admin.use_up(&operator, NOW)?;
    }
    Ok(Caller(operator))
}

#[test]
fn a_used_token_is_known_after_a_restart_and_to_the_other_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = || {
        let state = Folder::open(folder.path()).expect("it can be used");
        admin().keeping(Some(Arc::new(state)))
    };
    let (one, other) = (process(), process());
    let ahead = |seconds| bearing(&token(Bearer::Operator, None, NOW + seconds, 60));
    let headers = ahead(20);
    assert_eq!(status(&one, &Method::POST, &headers), 0);
    assert_eq!(status(&other, &Method::POST, &headers), 409);
    drop((one, other));
    let again = process();
    assert_eq!(status(&again, &Method::POST, &headers), 409);
    assert_eq!(status(&again, &Method::POST, &ahead(21)), 0);
    // Nobody can tell what was used if the file is broken.
    let file = folder.path().join("operator-tokens.jsonl");
    std::fs::write(&file, "half a li").expect("room");
    assert_eq!(status(&again, &Method::POST, &ahead(22)), 500);
    assert_eq!(std::fs::read(&file).expect("it is there"), b"half a li");
}

#[test]
fn a_token_is_good_for_any_number_of_questions_and_one_order() {
    let admin = admin();
    let headers = bearing(&token(Bearer::Operator, None, NOW, 60));
    for _ in 0..3 {
        assert_eq!(status(&admin, &Method::GET, &headers), 0);
    }
    assert_eq!(status(&admin, &Method::POST, &headers), 0);
    for method in [Method::POST, Method::DELETE, Method::PUT, Method::PATCH] {
        assert_eq!(status(&admin, &method, &headers), 409, "{method}");
    }
    assert_eq!(status(&admin, &Method::GET, &headers), 0);
}

#[test]
fn who_is_let_through() {
    let admin = admin();
    let operator = |issued, seconds| bearing(&token(Bearer::Operator, None, issued, seconds));
    let mut web_page = operator(NOW, 60);
    web_page.insert(
        header::ORIGIN,
        HeaderValue::from_static("https://evil.example"),
    );
    let mut basic = HeaderMap::new();
    basic.insert(
        header::AUTHORIZATION,
        HeaderValue::from_static("Basic YTpi"),
    );
    for (what, headers, order, question) in [
        ("good", operator(NOW, 60), 0, 0),
        ("as long as it may be", operator(NOW, 600), 0, 0),
        ("too long", operator(NOW, 601), 401, 0),
        ("over", operator(NOW - 200, 100), 401, 401),
        ("older than the process", operator(NOW - 301, 600), 401, 0),
        ("as old as the process", operator(NOW - 300, 600), 401, 0),
        ("of a clock that is ahead", operator(NOW + 1, 60), 401, 0),
        ("no token", HeaderMap::new(), 401, 401),
        ("no bearer", basic, 401, 401),
        ("not a token", bearing("abc"), 401, 401),
        ("a web page", web_page, 403, 403),
        (
            "a vehicle",
            bearing(&token(Bearer::Vehicle, Some("north"), NOW, 60)),
            403,
            403,
        ),
        (
            "a dashboard",
            bearing(&token(Bearer::Dashboard, Some("north"), NOW, 60)),
            403,
            403,
        ),
    ] {
        assert_eq!(
            status(&admin, &Method::GET, &headers),
            question,
            "{what}: GET"
        );
        assert_eq!(
            status(&admin, &Method::POST, &headers),
            order,
            "{what}: POST"
        );
    }
}

#[test]
fn a_fleets_operator_is_bound_to_it() {
    let admin = admin();
    let caller = |fleet| {
        let headers = bearing(&token(Bearer::Operator, fleet, NOW, 60));
        admit(&admin, &Method::POST, &headers).expect("it is let through")
    };
    let of_fleet = caller(Some("north"));
    assert_eq!(of_fleet.over_fleet("north"), Ok(()));
    assert_eq!(
        of_fleet.over_fleet("south").unwrap_err().status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        of_fleet.over_node().unwrap_err().status,
        StatusCode::FORBIDDEN
    );
    let of_node = caller(None);
    assert!(of_node.over_fleet("north").is_ok() && of_node.over_node().is_ok());
}
