use proptest::prelude::*;

use super::*;
use crate::config::Config;

fn abuse() -> Abuse {
    let mut abuse = Config::defaults().expect("defaults are good").abuse;
    abuse.exempt = Vec::new();
    (abuse.points_max, abuse.stay_ms_min, abuse.stay_ms_max) = (100, 10_000, 40_000);
    abuse
}

fn penalties() -> PenaltyBox {
    PenaltyBox::new(&abuse(), &[])
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Offends until the address is in the box: how many offences it took, and for how long.
fn put_into(penalties: &PenaltyBox, who: IpAddr, offence: Offence, now_ms: u64) -> (u32, u64) {
    for count in 1..=100_000 {
        if let Some(stay_ms) = penalties.offend(who, offence, now_ms) {
            return (count, stay_ms);
        }
    }
    panic!("100,000 offences at once, and it is not in the box");
}

#[test]
fn many_offences_at_once_lead_into_the_box_and_time_out_of_it() {
    let penalties = penalties();
    let (bad, good) = (address("192.0.2.1"), address("192.0.2.2"));
    assert!(penalties.is_empty(5_000));
    assert_eq!(
        put_into(&penalties, bad, Offence::Token, 5_000),
        (21, 10_000)
    );
    assert_eq!(penalties.keeps_out(bad, 5_000), Some(10_000));
    assert_eq!(penalties.keeps_out(bad, 14_999), Some(1));
    assert_eq!(penalties.keeps_out(good, 5_000), None);
    assert_eq!(penalties.count(14_999), 1);
    assert_eq!(penalties.keeps_out(bad, 15_000), None);
    assert_eq!(
        (penalties.count(15_000), penalties.is_empty(15_000)),
        (0, true)
    );
}

#[test]
fn each_stay_is_twice_as_long_until_the_maximum_and_until_it_behaves() {
    let penalties = penalties();
    let bad = address("192.0.2.1");
    let mut now_ms = 1_000;
    for expected in [10_000, 20_000, 40_000, 40_000] {
        let (_, stay_ms) = put_into(&penalties, bad, Offence::Frames, now_ms);
        assert_eq!(stay_ms, expected);
        // What its connections do that are open still adds nothing.
        assert_eq!(penalties.offend(bad, Offence::Frames, now_ms + 1), None);
        now_ms += stay_ms;
    }
    now_ms += 40_001;
    assert_eq!(put_into(&penalties, bad, Offence::Frames, now_ms).1, 10_000);
}

#[test]
fn an_offence_now_and_then_is_forgiven() {
    let penalties = penalties();
    let clumsy = address("192.0.2.1");
    // 5 points every 4 seconds, and 100 points leak in 60.
    for n in 0..10_000 {
        assert_eq!(
            penalties.offend(clumsy, Offence::Token, n * 4_000),
            None,
            "{n}"
        );
    }
}

/// Fifty vehicles of one carrier, one of which comes back every second with a token that has expired.
#[test]
fn one_bad_vehicle_does_not_lock_out_its_carrier() {
    let penalties = penalties();
    let carrier = address("198.51.100.7");
    for n in 0..50 {
        penalties.came_in(carrier, n);
    }
    for second in 1..100_000 {
        assert_eq!(
            penalties.offend(carrier, Offence::Token, second * 1_000),
            None,
            "after {second} s"
        );
    }
    // The same vehicle alone at its address is kept out.
    let alone = address("198.51.100.8");
    penalties.came_in(alone, 0);
    let kept_out =
        (1..1_000).find_map(|second| penalties.offend(alone, Offence::Token, second * 1_000));
    assert_eq!(kept_out, Some(10_000));
}

#[test]
fn goodwill_has_an_end() {
    let penalties = penalties();
    let who = address("198.51.100.7");
    for _ in 0..10_000 {
        penalties.came_in(who, 0);
    }
    let allowed = 20 * u32::from(GOODWILL_MAX + 1);
    assert_eq!(put_into(&penalties, who, Offence::Token, 0).0, allowed + 1);
    let day = 86_400_000;
    assert_eq!(
        put_into(&penalties, who, Offence::Token, 3 * day).0,
        20 * 9 + 1
    );
    assert_eq!(put_into(&penalties, who, Offence::Token, 30 * day).0, 21);
}

/// Coming in properly buys nothing for who misbehaves then: it would have to be done more often than offending.
#[test]
fn whoever_comes_in_to_misbehave_gains_nothing() {
    let penalties = penalties();
    let who = address("198.51.100.7");
    let rounds = (1..1_000).find(|_| {
        penalties.came_in(who, 0);
        penalties.offend(who, Offence::Frames, 0).is_some()
    });
    assert_eq!(rounds, Some(21));
}

#[test]
fn a_subscriber_of_ipv6_is_one_and_an_exempt_network_is_nobody() {
    let mut abuse = abuse();
    abuse.exempt = vec!["10.0.0.0/8".parse().expect("a network")];
    let trusted = ["2001:db8:ffff::/48".parse().expect("a network")];
    let penalties = PenaltyBox::new(&abuse, &trusted);
    put_into(&penalties, address("2001:db8::1"), Offence::Token, 0);
    assert!(
        penalties
            .keeps_out(address("2001:db8::ffff:2"), 1)
            .is_some()
    );
    assert_eq!(penalties.keeps_out(address("2001:db8:0:1::1"), 1), None);
    for exempt in ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8:ffff::9"] {
        for _ in 0..1_000 {
            assert_eq!(penalties.offend(address(exempt), Offence::Frames, 0), None);
        }
    }
    put_into(&penalties, address("::ffff:192.0.2.1"), Offence::Token, 0);
    assert!(
        penalties.keeps_out(address("192.0.2.1"), 1).is_some(),
        "the same host"
    );
}

#[test]
fn it_can_be_turned_off() {
    let mut abuse = abuse();
    abuse.points_max = 0;
    let penalties = PenaltyBox::new(&abuse, &[]);
    assert!(!penalties.is_on());
    penalties.came_in(address("192.0.2.1"), 0);
    for _ in 0..1_000 {
        assert_eq!(
            penalties.offend(address("192.0.2.1"), Offence::Frames, 0),
            None
        );
    }
    assert_eq!((penalties.count(0), penalties.is_empty(0)), (0, true));
}

/// Many times as many addresses as there is room for, with an offence each: nothing grows, and who is in the box stays
/// there.
#[test]
fn a_flood_from_more_addresses_than_there_is_room_for_frees_nobody() {
    let penalties = penalties();
    let boxed: Vec<IpAddr> = (1..=100)
        .map(|n| address(&format!("192.0.2.{n}")))
        .collect();
    for who in &boxed {
        put_into(&penalties, *who, Offence::Token, 0);
    }
    let carrier = address("198.51.100.7");
    (0..50).for_each(|_| penalties.came_in(carrier, 0));
    for n in 0..5 * PENALTY_ADDRESSES_MAX as u32 {
        let who = IpAddr::from((0x2000_0000 + n).to_be_bytes());
        assert_eq!(
            penalties.offend(who, Offence::Token, u64::from(n / 1_000)),
            None
        );
    }
    assert!(
        boxed
            .iter()
            .all(|who| penalties.keeps_out(*who, 2_000).is_some())
    );
    assert_eq!(penalties.count(2_000), 100);
    let (count, _) = put_into(&penalties, carrier, Offence::Token, 2_000);
    assert_eq!(count, 20 * 51 + 1, "its goodwill is there still");
    const { assert!(PENALTY_BYTES < 4 << 20) };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Against a model without a bound on memory, and without leaking in thousandths.
    #[test]
    fn it_does_what_its_description_says(
        steps in proptest::collection::vec((0u8..4, 0u64..20_000, any::<bool>()), 1..400)
    ) {
        let penalties = penalties();
        #[derive(Default, Clone, Copy)]
        struct Model { points: f64, at: u64, until: u64, strikes: u32, good: u32 }
        let mut models = [Model::default(); 4];
        let mut now = 0;
        for (who, passed, good) in steps {
            now += passed;
            let model = &mut models[usize::from(who)];
            let who = IpAddr::from([192, 0, 2, who]);
            prop_assert_eq!(
                penalties.keeps_out(who, now),
                (model.until > now).then(|| model.until - now)
            );
            if good {
                model.good = (model.good + 1).min(u32::from(GOODWILL_MAX));
                penalties.came_in(who, now);
                continue;
            }
            let boxed = penalties.offend(who, Offence::TooLong, now);
            if model.until > now {
                prop_assert_eq!(boxed, None);
                continue;
            }
            let allowed = 100.0 * f64::from(1 + model.good);
            model.points = (model.points - allowed * (now - model.at) as f64 / 60_000.0).max(0.0) + 10.0;
            model.at = now;
            // Rounding may decide either way at the very edge.
            if (model.points - allowed).abs() < 0.1 {
                return Ok(());
            }
            prop_assert_eq!(boxed.is_some(), model.points > allowed);
            if model.points > allowed {
                if now - model.until > 40_000 {
                    model.strikes = 0;
                }
                let stay = (10_000 << model.strikes).min(40_000);
                prop_assert_eq!(boxed, Some(stay));
                *model = Model { points: 0.0, at: now, until: now + stay, strikes: (model.strikes + 1).min(8), good: model.good };
            }
        }
    }
}
