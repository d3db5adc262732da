use super::*;
use crate::{
    config::Config,
    session::{rights::Rights, token::Role},
};

fn bounds() -> IdBounds {
    IdBounds::new(&Config::defaults().expect("defaults are good").limits)
}

fn identity(fleet: &str, subject: &str, token_id: Option<&str>, issued: Option<u64>) -> Identity {
    Identity {
        role: Role::Vehicle,
        fleet: fleet.to_owned(),
        subject: subject.to_owned(),
        expires_unix: 2_000_000_000,
        issued_unix: issued,
        token_id: token_id.map(str::to_owned),
        may: Rights::default(),
        groups: Box::default(),
        grants: None,
    }
}

fn read(text: &str, called: Option<u64>) -> Result<Revocation, EntryError> {
    let entry: Entry = serde_json::from_str(text).expect("it has the form");
    entry.read(called, bounds())
}

#[test]
fn each_kind_hits_whom_it_names_and_only_older_tokens() {
    let now = 1_000;
    let truck = |issued| identity("north", "truck-1", Some("t-1"), issued);
    for (entry, hits, hits_newer, misses) in [
        (
            r#"{"token_id":"t-1"}"#,
            true,
            true,
            identity("north", "truck-1", Some("t-2"), Some(1)),
        ),
        (
            r#"{"token_id":"t-1","fleet":"north"}"#,
            true,
            true,
            identity("south", "truck-1", Some("t-1"), Some(1)),
        ),
        (
            r#"{"token_id":"t-1","fleet":"south"}"#,
            false,
            false,
            truck(Some(1)),
        ),
        (
            r#"{"fleet":"north","subject":"truck-1"}"#,
            true,
            false,
            identity("south", "truck-1", None, Some(1)),
        ),
        (
            r#"{"fleet":"north","subject":"truck-2"}"#,
            false,
            false,
            truck(Some(1)),
        ),
        (
            r#"{"fleet":"north"}"#,
            true,
            false,
            identity("south", "truck-1", None, Some(1)),
        ),
        (r#"{"operator":"truck-1"}"#, false, false, truck(Some(1))),
        (
            r#"{"all":true}"#,
            true,
            false,
            identity("south", "other", None, Some(1_001)),
        ),
    ] {
        let list = Revocations::new([read(entry, Some(now)).expect(entry)], now);
        assert_eq!(list.hit(&truck(Some(999))).is_some(), hits, "{entry}");
        assert_eq!(
            list.hit(&truck(Some(1_000))).is_some(),
            hits,
            "{entry}: in the same second"
        );
        assert_eq!(
            list.hit(&truck(Some(1_001))).is_some(),
            hits_newer,
            "{entry}: newer"
        );
        assert_eq!(list.hit(&truck(None)).is_some(), hits, "{entry}: no iat");
        assert!(list.hit(&misses).is_none(), "{entry}");
    }
}

#[test]
fn operators_are_hit_by_name_and_by_fleet() {
    let operator = |fleet: Option<&str>| Operator {
        fleet: fleet.map(str::to_owned),
        subject: "ada".to_owned(),
        expires_unix: 2_000,
        issued_unix: Some(999),
        token_id: "o-1".to_owned(),
    };
    for (entry, of_node, of_north) in [
        (r#"{"operator":"ada"}"#, true, true),
        (r#"{"operator":"bob"}"#, false, false),
        (r#"{"fleet":"north"}"#, false, true),
        (r#"{"fleet":"north","subject":"ada"}"#, false, false),
        (r#"{"token_id":"o-1"}"#, true, true),
        (r#"{"token_id":"o-1","fleet":"north"}"#, false, true),
        (r#"{"all":true}"#, true, true),
    ] {
        let list = Revocations::new([read(entry, Some(1_000)).expect(entry)], 1_000);
        assert_eq!(
            list.hit_operator(&operator(None)).is_some(),
            of_node,
            "{entry}"
        );
        assert_eq!(
            list.hit_operator(&operator(Some("north"))).is_some(),
            of_north,
            "{entry}"
        );
    }
}

#[test]
fn an_entry_says_what_is_wrong_with_it() {
    for entry in [
        "{}",
        r#"{"subject":"truck-1"}"#,
        r#"{"all":true,"fleet":"north"}"#,
        r#"{"all":false}"#,
        r#"{"token_id":"t","subject":"s","fleet":"f"}"#,
        r#"{"operator":"o","fleet":"f"}"#,
    ] {
        assert_eq!(read(entry, Some(1)), Err(EntryError::Whom), "{entry}");
    }
    assert_eq!(
        read(r#"{"fleet":"north"}"#, None),
        Err(EntryError::IssuedBefore)
    );
    assert!(read(r#"{"token_id":"t"}"#, None).is_ok());
    assert!(matches!(
        read(r#"{"fleet":""}"#, Some(1)),
        Err(EntryError::Id(_))
    ));
    let long = format!(r#"{{"all":true,"reason":"{}"}}"#, "x".repeat(1_000));
    assert_eq!(read(&long, Some(1)), Err(EntryError::Reason));
    assert!(serde_json::from_str::<Entry>(r#"{"fleets":"north"}"#).is_err());
}

#[test]
fn what_is_written_reads_the_same() {
    for text in [
        r#"{"token_id":"t-1"}"#,
        r#"{"token_id":"t-1","fleet":"north"}"#,
        r#"{"fleet":"north","subject":"ü \n","issued_before":7,"until":9,"reason":"stolen"}"#,
        r#"{"fleet":"north","issued_before":7,"node_wide":true}"#,
        r#"{"operator":"ada","issued_before":7}"#,
        r#"{"all":true,"issued_before":7}"#,
    ] {
        let text = text.replace("\\n", "");
        let one = read(&text, None).expect(&text);
        let written = serde_json::to_string(&Entry::from(&one)).expect("it is plain");
        assert_eq!(read(&written, None).expect(&written), one);
    }
}

#[test]
fn the_stricter_of_two_counts_and_what_is_over_is_left_out() {
    let entry = |before, until| Revocation {
        whom: Whom::All,
        terms: Terms {
            issued_before: before,
            until,
            reason: None,
            node_wide: false,
        },
    };
    let list = Revocations::new(
        [
            entry(10, Some(50)),
            entry(20, Some(40)),
            entry(99, Some(30)),
        ],
        30,
    );
    assert_eq!(list.len(), 1);
    let terms = &list.entries[&Whom::All];
    assert_eq!((terms.issued_before, terms.until), (20, Some(50)));
    let for_ever = Revocations::new([entry(10, Some(50)), entry(20, None)], 30);
    assert_eq!(for_ever.entries[&Whom::All].until, None);
}

#[test]
fn what_is_new_is_what_hits_more() {
    let list = |texts: &[&str]| {
        Revocations::new(texts.iter().map(|text| read(text, None).expect(text)), 0)
    };
    let before = list(&[
        r#"{"fleet":"a","issued_before":5}"#,
        r#"{"token_id":"t"}"#,
        r#"{"fleet":"b","issued_before":5}"#,
    ]);
    let after = list(&[
        r#"{"fleet":"a","issued_before":6}"#,
        r#"{"token_id":"t","issued_before":9}"#,
        r#"{"fleet":"b","issued_before":4}"#,
        r#"{"all":true,"issued_before":1}"#,
    ]);
    let mut fresh = after.beyond(&before);
    fresh.sort();
    assert_eq!(fresh, [(Whom::All, 1), (Whom::Fleet("a".into()), 6)]);
    assert!(after.beyond(&after).is_empty());
}
