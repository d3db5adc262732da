//! What changes while everybody is connected: a vehicle's group, a grant that ends, a token that is renewed.

use std::time::{SystemTime, UNIX_EPOCH};

use longhaul_codec::{
    AckKind, Authenticate, Delivery, ErrorCode, Message, PresenceState, Subscribe,
};
use serde_json::json;

use crate::{
    all_of,
    common::{
        self,
        client::{Client, fix, watch, watch_all},
        gateway::Gateway,
    },
    event, granted, granted_token, member, report, set, token,
    told::{told_so_far, told_until, told_with},
};

fn unix_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("it is after 1970").as_secs()
}

#[test]
fn a_vehicle_that_changes_its_group_changes_its_watchers_at_once() {
    for shards in [1, 3] {
        let gateway = Gateway::start(shards);
        let everything = ["positions", "presence", "events"];
        let team = |name: &str| [json!({ "groups": [name] })];
        let mut north = granted(&gateway, "north", &team("north"));
        let mut south = granted(&gateway, "south", &team("south"));
        let mut every = granted(&gateway, "every", &team("north"));
        let mut slow = granted(&gateway, "slow", &team("north"));
        let mut truck = member(&gateway, "truck", &["north"]);
        let mut n_witness = member(&gateway, "n", &["north"]);
        let mut s_witness = member(&gateway, "s", &["south"]);
        report(&mut truck, fix(1));
        north.subscribe(all_of(1, &everything));
        south.subscribe(all_of(1, &everything));
        every.subscribe(Subscribe {
            delivery: Delivery::Every,
            ..all_of(1, &["positions", "events"])
        });
        told_until(&mut north, "truck", fix(1));
        told_until(&mut every, "truck", fix(1));
        // What is held back for an interval is held back from whoever has left by then.
        slow.subscribe(Subscribe {
            min_interval_ms: 2_000,
            ..watch_all(1)
        });
        told_until(&mut slow, "truck", fix(1));
        report(&mut truck, fix(2));
        told_until(&mut north, "truck", fix(2));

        let before = truck;
        let mut truck = member(&gateway, "truck", &["south"]);
        report(&mut truck, fix(3));
        let gained = told_until(&mut south, "truck", fix(3));
        assert!(gained.names.contains("truck"), "{gained:?}");
        assert!(
            gained
                .presence
                .contains(&("truck".to_owned(), PresenceState::Online))
        );
        // At most once: one that is sent before the shards of its new watchers know of it may pass them by.
        truck.send(&event(0, "door").into());
        assert_eq!(truck.drain(), []);
        // All shards have been sent it by then: it comes ahead of what the witnesses report, or in one frame with that.
        report(&mut s_witness, fix(9));
        report(&mut n_witness, fix(9));
        let gained = told_with(&mut south, "s", fix(9));
        let door = ("truck".to_owned(), "door".to_owned());
        assert!(gained.events.contains(&door), "{gained:?}");
        for dashboard in [&mut north, &mut every, &mut slow] {
            let told = told_with(dashboard, "n", fix(9));
            let late = |(id, time): &&(String, u64)| id == "truck" && *time >= fix(3).time_ms;
            assert_eq!(told.positions.iter().find(late), None, "{told:?}");
            assert!(!told.events.contains(&door), "{told:?}");
        }
        drop(before);
        // And back again, and into nothing.
        let mut truck = member(&gateway, "truck", &["north", "south"]);
        report(&mut truck, fix(4));
        told_until(&mut north, "truck", fix(4));
        told_until(&mut south, "truck", fix(4));
        let mut truck = member(&gateway, "truck", &[]);
        report(&mut truck, fix(5));
        truck.send(&event(0, "door").into());
        assert_eq!(truck.drain(), []);
        drop(truck);
        report(&mut n_witness, fix(10));
        report(&mut s_witness, fix(10));
        for (dashboard, witness) in [(&mut north, "n"), (&mut south, "s"), (&mut every, "n")] {
            let told = told_with(dashboard, witness, fix(10));
            let last = told.positions.iter().filter(|(id, _)| id == "truck");
            assert!(
                last.clone().all(|(_, time)| *time <= fix(4).time_ms),
                "{told:?}"
            );
            assert!(!told.events.contains(&door), "{told:?}");
            assert!(
                !told
                    .presence
                    .contains(&("truck".to_owned(), PresenceState::Offline))
            );
        }
    }
}

#[test]
fn a_third_partys_grant_ends_before_its_token() {
    let gateway = Gateway::start(2);
    let mut own = member(&gateway, "own", &["own"]);
    let mut lent = member(&gateway, "lent", &["lent"]);
    let grants = |until: u64| {
        [
            json!({ "groups": ["own"] }),
            json!({ "groups": ["lent"], "until": until }),
        ]
    };
    let mut partner = granted(&gateway, "partner", &grants(unix_s() + 4));
    let ack = partner.subscribe(watch_all(1));
    assert_eq!(ack.watching, 2);
    report(&mut lent, fix(1));
    told_until(&mut partner, "lent", fix(1));
    let until = unix_s() + 3;
    let mut guest = granted(
        &gateway,
        "guest",
        &[json!({ "fleet": true, "until": until })],
    );
    assert_eq!(guest.subscribe(watch_all(1)).watching, u32::MAX);
    report(&mut own, fix(1));
    told_until(&mut guest, "own", fix(1));
    // All that it had has ended: so has the connection.
    assert_eq!(guest.closed().0, 4501);
    let begins = granted(&gateway, "late", &grants(unix_s() - 1));
    let mut begins = begins;
    assert_eq!(begins.subscribe(watch_all(1)).watching, 1);
    let mut over = granted(
        &gateway,
        "over",
        &[json!({ "fleet": true, "until": unix_s() - 1 })],
    );
    assert_eq!(over.closed().0, 4501);
    // One of two has ended: the rest holds.
    let mut n = 1;
    common::eventually("the lent vehicles are gone", || {
        n += 1;
        report(&mut lent, fix(n));
        report(&mut own, fix(n));
        let told = told_until(&mut partner, "own", fix(n));
        !told.positions.iter().any(|(id, _)| id == "lent")
            && told_so_far(&mut partner).positions.is_empty()
    });
    partner.send(&watch(2, &["lent"]).into());
    partner.error(ErrorCode::NotAllowed);
}

/// Says a fresh token in place, and gives what came before its Ack.
#[track_caller]
fn renew(client: &mut Client, request: u64, token: String) -> Vec<Message> {
    client.send(&Authenticate { request, token }.into());
    let mut before = Vec::new();
    loop {
        match client.next() {
            Message::Ack(ack) => {
                assert_eq!((ack.kind, ack.id), (AckKind::Authenticate, request));
                return before;
            }
            other => before.push(other),
        }
    }
}

#[test]
fn a_renewed_token_narrows_and_widens_in_place() {
    for shards in [1, 3] {
        let gateway = Gateway::start(shards);
        let mut a = member(&gateway, "a", &["a"]);
        let mut b = member(&gateway, "b", &["b"]);
        let mut dashboard = Client::dashboard(&gateway, "me");
        let everything = ["positions", "presence", "events"];
        dashboard.subscribe(all_of(1, &everything));
        let of = |groups: &[&str]| [json!({ "groups": groups })];
        for vehicle in [&mut a, &mut b] {
            report(vehicle, fix(1));
        }
        told_until(&mut dashboard, "b", fix(1));
        told_so_far(&mut dashboard);
        renew(
            &mut dashboard,
            2,
            granted_token(&gateway, "me", &of(&["a"])),
        );
        let mut c = member(&gateway, "c", &["b"]);
        for vehicle in [&mut b, &mut c, &mut a] {
            vehicle.send(&event(0, "door").into());
            report(vehicle, fix(2));
        }
        let told = told_with(&mut dashboard, "a", fix(2));
        assert_eq!(told.whom(), set(&["a"]), "and no name of c: {told:?}");
        renew(
            &mut dashboard,
            3,
            granted_token(&gateway, "me", &of(&["b"])),
        );
        // What is new begins with a snapshot.
        let told = told_until(&mut dashboard, "c", fix(2));
        assert!(told.names.contains("c"), "{told:?}");
        report(&mut a, fix(3));
        report(&mut b, fix(3));
        let told = told_until(&mut dashboard, "b", fix(3));
        assert!(!told.positions.iter().any(|(id, _)| id == "a"), "{told:?}");
        renew(&mut dashboard, 4, gateway.dashboard_token("me"));
        report(&mut a, fix(4));
        told_until(&mut dashboard, "a", fix(4));
        // A vehicle's groups follow its tokens as well.
        let mut team = granted(&gateway, "team", &of(&["moved"]));
        assert_eq!(team.subscribe(all_of(1, &["positions"])).watching, 0);
        assert_eq!(
            renew(
                &mut a,
                5,
                token(&gateway, "vehicle", "a", &["--group", "moved"])
            ),
            []
        );
        told_until(&mut team, "a", fix(4));
        let bound = json!({ "topics": ["door"], "may": ["publish"] }).to_string();
        renew(
            &mut a,
            6,
            token(&gateway, "vehicle", "a", &["--grant", &bound]),
        );
        a.report(fix(5));
        a.error(ErrorCode::NotAllowed);
    }
}
