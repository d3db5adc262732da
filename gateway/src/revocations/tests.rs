use std::{fs, path::PathBuf};

use super::*;
use crate::{
    config::Config,
    session::{
        rights::Rights,
        token::{IdBounds, Identity, Role, Verifier},
    },
};

struct World {
    dir: tempfile::TempDir,
    config: Config,
    trust: Arc<Trust>,
    inboxes: Arc<[Arc<Inbox>]>,
}

impl World {
    fn new() -> World {
        let config = Config::defaults().expect("defaults are good");
        World {
            dir: tempfile::tempdir().expect("a folder"),
            trust: Trust::new(Verifier::new(Vec::new(), &config.auth, &config.limits)),
            inboxes: (0..2)
                .map(|_| Inbox::new(16).expect("a doorbell"))
                .collect(),
            config,
        }
    }

    fn watched(&self) -> PathBuf {
        self.dir.path().join("revoked.jsonl")
    }

    fn folder(&self) -> Arc<Folder> {
        Arc::new(Folder::open(&self.dir.path().join("state")).expect("a folder"))
    }

    fn keeper(&self, folder: Option<&Arc<Folder>>) -> Arc<Keeper> {
        let watched = self.watched();
        let watched = watched.exists().then_some(watched.as_path());
        let loaded = load(watched, folder, &self.config.limits).expect("both can be used");
        let (trust, inboxes) = (Arc::clone(&self.trust), Arc::clone(&self.inboxes));
        Keeper::new(loaded, trust, inboxes, Arc::default())
    }

    /// Whom each shard was told to close since the last time; both were told the same.
    fn told(&self) -> Vec<Whom> {
        let told: Vec<Vec<Whom>> = self
            .inboxes
            .iter()
            .map(|inbox| {
                let mut whom = Vec::new();
                while let Some(letter) = inbox.take() {
                    let Letter::Purge(purge) = letter else {
                        panic!("{letter:?}")
                    };
                    whom.extend(purge.whom.iter().map(|(whom, _)| whom.clone()));
                }
                whom.sort();
                whom
            })
            .collect();
        assert_eq!(told[0], told[1]);
        told[0].clone()
    }

    fn is_hit(&self, subject: &str) -> bool {
        let identity = Identity {
            role: Role::Vehicle,
            fleet: "north".to_owned(),
            subject: subject.to_owned(),
            expires_unix: u64::MAX,
            issued_unix: Some(1_000),
            token_id: None,
            may: Rights::default(),
            groups: Box::default(),
            grants: None,
        };
        self.trust.revocations().hit(&identity).is_some()
    }
}

fn of(subject: &str) -> Revocation {
    let text = format!(r#"{{"fleet":"north","subject":"{subject}","issued_before":2000}}"#);
    let entry: Entry = serde_json::from_str(&text).expect("it is one");
    let limits = Config::defaults().expect("defaults are good").limits;
    entry
        .read(None, IdBounds::new(&limits))
        .expect("it is good")
}

fn line(subject: &str) -> String {
    String::from_utf8(lines(&[of(subject)])).expect("it is text")
}

#[test]
fn a_call_is_in_force_at_once_and_told_to_every_shard() {
    let world = World::new();
    let keeper = world.keeper(None);
    assert!(!keeper.is_durable() && !world.is_hit("truck-1"));
    keeper.add(of("truck-1")).expect("there is room");
    assert!(world.is_hit("truck-1") && !world.is_hit("truck-2"));
    assert_eq!(world.told(), [of("truck-1").whom]);
    keeper.add(of("truck-1")).expect("again");
    assert_eq!(world.told(), [], "nobody new is hit");
    keeper
        .remove(&of("truck-1").whom, true)
        .expect("it is there");
    assert!(!world.is_hit("truck-1"));
    assert!(matches!(
        keeper.remove(&of("truck-1").whom, true),
        Err(KeepError::Unknown)
    ));
    assert_eq!(world.told(), []);
}

#[test]
fn an_entry_is_only_made_stricter_and_a_fleets_operator_does_not_take_back_the_nodes() {
    let world = World::new();
    let keeper = world.keeper(None);
    let by = |node_wide, issued_before, until, reason: &str| {
        let mut entry = of("truck-1");
        entry.terms.issued_before = issued_before;
        entry.terms.until = until;
        entry.terms.reason = Some(reason.into());
        entry.terms.node_wide = node_wide;
        entry
    };
    let soon = unix_ms() / 1_000 + 1_000;
    keeper
        .add(by(true, 2_000, None, "stolen"))
        .expect("there is room");
    let merged = keeper
        .add(by(false, 0, Some(soon), "found"))
        .expect("it is one");
    assert_eq!(merged, by(true, 2_000, None, "stolen"));
    assert!(world.is_hit("truck-1"));
    let whom = of("truck-1").whom;
    assert!(matches!(
        keeper.remove(&whom, false),
        Err(KeepError::NodeWide)
    ));
    assert!(world.is_hit("truck-1"));
    keeper.remove(&whom, true).expect("it may");
    keeper
        .add(by(false, 2_000, Some(soon), "lost"))
        .expect("there is room");
    let merged = keeper
        .add(by(false, 1_000, Some(soon + 1), "again"))
        .expect("it is one");
    assert_eq!(merged, by(false, 2_000, Some(soon + 1), "again"));
    keeper.remove(&whom, false).expect("it is its own");
    assert!(!world.is_hit("truck-1"));
}

#[test]
fn what_calls_say_survives_and_reaches_the_other_process() {
    let world = World::new();
    let (mine, others) = (world.folder(), world.folder());
    let keeper = world.keeper(Some(&mine));
    let other = World {
        dir: tempfile::tempdir().expect("a folder"),
        ..World::new()
    };
    let loaded = load(None, Some(&others), &other.config.limits).expect("there is none yet");
    let second = Keeper::new(
        loaded,
        Arc::clone(&other.trust),
        Arc::clone(&other.inboxes),
        Arc::default(),
    );
    keeper.add(of("truck-1")).expect("it is kept");
    // Once to see it, once to see that it stays as it is.
    second.look();
    second.look();
    assert!(other.is_hit("truck-1"));
    assert_eq!(other.told(), [of("truck-1").whom]);
    // Neither loses what the other one wrote.
    second.add(of("truck-2")).expect("it is kept");
    keeper.add(of("truck-3")).expect("it is kept");
    for subject in ["truck-1", "truck-2", "truck-3"] {
        assert!(world.is_hit(subject), "{subject}");
    }
    let fresh = World::new();
    let loaded = load(None, Some(&mine), &fresh.config.limits).expect("it was kept");
    assert_eq!(loaded.kept.entries.len(), 3, "after a restart");
}

#[test]
fn a_watched_file_counts_when_it_is_whole_and_the_old_list_until_then() {
    let world = World::new();
    let path = world.watched();
    fs::write(&path, line("truck-1")).expect("room");
    let keeper = world.keeper(None);
    assert!(world.is_hit("truck-1"));
    world.told();
    let look_twice = || {
        keeper.look();
        keeper.look();
    };
    fs::write(&path, line("truck-1") + &line("truck-2")).expect("room");
    keeper.look();
    assert!(!world.is_hit("truck-2"), "it may be half written");
    keeper.look();
    assert!(world.is_hit("truck-2"));
    assert_eq!(world.told(), [of("truck-2").whom]);
    for broken in [
        "{\"fleet\":\"no",
        "[1]",
        "{\"fleet\":\"north\"}",
        "{\"who\":1}",
    ] {
        let errors = keeper.metrics.errors.get();
        fs::write(&path, broken).expect("room");
        look_twice();
        look_twice();
        assert!(
            world.is_hit("truck-1") && world.is_hit("truck-2"),
            "{broken}"
        );
        assert_eq!(
            keeper.metrics.errors.get(),
            errors + 1,
            "{broken}: said once"
        );
        assert_eq!(keeper.metrics.broken.get(), 1);
        assert!(keeper.reload().is_err());
    }
    fs::remove_file(&path).expect("it is there");
    look_twice();
    assert!(world.is_hit("truck-1"), "a file that is gone frees nobody");
    let array = serde_json::to_string_pretty(&[Entry::from(&of("truck-3"))]).expect("it is plain");
    fs::write(&path, array).expect("room");
    look_twice();
    assert!(world.is_hit("truck-3") && !world.is_hit("truck-1"));
    assert_eq!(keeper.metrics.broken.get(), 0);
    assert!(matches!(
        keeper.remove(&of("truck-3").whom, true),
        Err(KeepError::InFile)
    ));
    fs::write(&path, "\n").expect("room");
    keeper.reload().expect("an empty file is a good one");
    assert!(!world.is_hit("truck-3"));
}

#[test]
fn a_bound_is_kept_and_said() {
    let mut world = World::new();
    world.config.limits.revocations_max = 2;
    fs::write(world.watched(), line("truck-1")).expect("room");
    let folder = world.folder();
    let keeper = world.keeper(Some(&folder));
    keeper.add(of("truck-2")).expect("there is room");
    assert!(matches!(keeper.add(of("truck-3")), Err(KeepError::Full(2))));
    assert!(!world.is_hit("truck-3"));
    keeper
        .remove(&of("truck-2").whom, true)
        .expect("it is there");
    keeper.add(of("truck-3")).expect("there is room");
    fs::write(world.watched(), line("a") + &line("b") + &line("c")).expect("room");
    assert!(
        keeper
            .reload()
            .expect_err("too many")
            .contains("revocations_max")
    );
    assert!(world.is_hit("truck-1"));
}

#[test]
fn an_entry_is_forgotten_at_its_end() {
    let world = World::new();
    let keeper = world.keeper(None);
    let now = unix_ms() / 1_000;
    let mut entry = of("truck-1");
    entry.terms.until = Some(now + 1);
    keeper.add(entry).expect("there is room");
    assert!(world.is_hit("truck-1"));
    let asked = Instant::now();
    while world.is_hit("truck-1") {
        assert!(
            asked.elapsed() < Duration::from_secs(30),
            "it is not forgotten"
        );
        thread::sleep(Duration::from_millis(20));
        keeper.look();
    }
}

#[test]
fn nobody_starts_without_a_list_that_was_asked_for() {
    let world = World::new();
    let limits = &world.config.limits;
    let missing = load(Some(&world.watched()), None, limits).expect_err("it is not there");
    assert!(
        missing.to_string().contains("auth.revocations"),
        "{missing}"
    );
    let folder = world.folder();
    fs::write(folder.path().join(KEPT), "half a li").expect("room");
    let broken = load(None, Some(&folder), limits).expect_err("it is broken");
    assert!(broken.to_string().contains("revocations.jsonl"), "{broken}");
    // And what is broken is not written over.
    fs::write(folder.path().join(KEPT), "").expect("room");
    let keeper = world.keeper(Some(&folder));
    fs::write(folder.path().join(KEPT), "half a li").expect("room");
    assert!(matches!(
        keeper.add(of("truck-1")),
        Err(KeepError::Write(_))
    ));
    assert_eq!(
        fs::read(folder.path().join(KEPT)).expect("it is there"),
        b"half a li"
    );
}

#[test]
fn a_letter_that_finds_no_room_waits() {
    let world = World::new();
    let keeper = world.keeper(None);
    let full = &world.inboxes[1];
    while full.post(Letter::NewEpoch).is_ok() {}
    keeper.evict(of("truck-1").whom);
    keeper.evict(of("truck-2").whom);
    while full.take().is_some() {}
    keeper.look();
    let mut got = Vec::new();
    while let Some(Letter::Purge(purge)) = full.take() {
        got.extend(purge.whom.iter().map(|(whom, _)| whom.clone()));
    }
    assert_eq!(got, [of("truck-1").whom, of("truck-2").whom], "in order");
}
