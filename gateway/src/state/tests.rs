use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs::{self, File},
    num::NonZeroU64,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use longhaul_codec::{Fix, PresenceState};
use longhaul_filter_engine::{FleetId, VehicleIndex};
use tempfile::TempDir;

use super::{
    apply::Taken,
    file::read_header,
    folder::Folder,
    keeper::Keeper,
    load::{Keeping, Loaded, Now, load_at},
};
use crate::{
    config::Config,
    fleet::{Fleet, Holder, Presence},
    limits::Limits,
    metrics::StateMetrics,
};

const EVERY: Duration = Duration::from_secs(30);
/// When tests begin, in milliseconds since the Unix epoch.
const START_MS: u64 = 1_800_000_000_000;

/// A clock that tests turn.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn at(self, ms: u64) -> Now {
        Now {
            at: self.0 + Duration::from_millis(ms),
            unix_ms: START_MS + ms,
        }
    }
}

/// One process: its tables, and its use of the folder.
struct Process {
    fleet: Arc<Fleet>,
    limits: Limits,
    metrics: Arc<StateMetrics>,
    folder: Arc<Folder>,
}

impl Process {
    fn new(folder: &TempDir) -> Process {
        Process::with(folder, Config::defaults().unwrap().limits)
    }

    fn with(folder: &TempDir, limits: Limits) -> Process {
        Process {
            fleet: Fleet::new(&limits),
            limits,
            metrics: Arc::default(),
            folder: Arc::new(Folder::open(folder.path()).unwrap()),
        }
    }

    fn load(&self, now: Now) -> Loaded {
        let keeping = Keeping {
            folder: Arc::clone(&self.folder),
            fleet: Arc::clone(&self.fleet),
            limits: self.limits.clone(),
            snapshot_every: EVERY,
            metrics: Arc::clone(&self.metrics),
        };
        load_at(keeping, now)
    }

    fn quiet(
        &self,
        now: Now,
    ) -> Keeper<impl Fn(FleetId, &[VehicleIndex], &[VehicleIndex]) + use<>> {
        Keeper::new(self.load(now), |_, _, _| {}, now)
    }

    fn vehicle(&self, id: &str) -> VehicleIndex {
        let fleet = self.fleet.registry.fleet("berlin").unwrap();
        self.fleet.registry.vehicle(fleet, id).unwrap()
    }

    /// A vehicle reports; `n` is both its place and its time.
    fn report(&self, id: &str, n: u64) {
        let fix = Fix {
            time_ms: n,
            lat_e7: n as i32,
            ..Fix::default()
        };
        self.fleet
            .positions
            .write(self.vehicle(id), &fix, START_MS + n);
    }

    fn connect(&self, id: &str, at: Now) {
        let (vehicle, holder) = (self.vehicle(id), Holder(NonZeroU64::MIN));
        self.fleet.presence.connect(vehicle, holder, at.unix_ms);
    }

    fn disconnect(&self, id: &str, at: Now) {
        let (vehicle, holder) = (self.vehicle(id), Holder(NonZeroU64::MIN));
        self.fleet.presence.disconnect(vehicle, holder, at.unix_ms);
    }

    /// The last position's `n`, if it is known and as it was written.
    fn place(&self, id: &str) -> Option<u64> {
        let fleet = self.fleet.registry.fleet("berlin").ok()?;
        let known = self
            .fleet
            .positions
            .read(self.fleet.registry.find(fleet, id)?)?;
        assert_eq!(known.fix.lat_e7 as u64, known.fix.time_ms);
        assert_eq!(known.received_ms, START_MS + known.fix.time_ms);
        Some(known.fix.time_ms)
    }

    /// The state, and since when, in milliseconds after the start.
    fn presence(&self, id: &str) -> (PresenceState, u64) {
        let Presence { state, since_ms } = self.fleet.presence.read(self.vehicle(id));
        (state, since_ms.saturating_sub(START_MS))
    }
}

fn names(folder: &TempDir) -> BTreeSet<String> {
    let plain = |name: &String| !name.starts_with("instance-") && name != "lock";
    fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(plain)
        .collect()
}

fn writer_of(path: &Path) -> u64 {
    read_header(File::open(path).unwrap()).unwrap().instance
}

fn set_up() -> (TempDir, Clock) {
    (tempfile::tempdir().unwrap(), Clock(Instant::now()))
}

#[test]
fn a_snapshot_brings_back_positions_and_since_when_vehicles_are_gone() {
    let (folder, clock) = set_up();
    let first = Process::new(&folder);
    let mut keeper = first.quiet(clock.at(0));
    first.report("van", 10);
    first.connect("van", clock.at(100));
    first.connect("bus", clock.at(200));
    first.disconnect("bus", clock.at(300));
    first.report("tram", 20);
    let berlin = first.fleet.registry.fleet("berlin").unwrap();
    first.fleet.registry.wish(berlin, 1, "ghost").unwrap();
    first.fleet.registry.fleet("empty").unwrap();
    keeper.step(clock.at(29_999));
    assert!(names(&folder).is_empty(), "it is not time yet");
    keeper.step(clock.at(30_000));
    assert_eq!(first.metrics.snapshots.get(), 1);
    assert_eq!(first.metrics.snapshot_vehicles.get(), 3);
    assert_eq!(first.metrics.snapshot_time_s.get(), START_MS / 1_000 + 30);
    first.report("van", 11);
    // It is killed: nothing after the snapshot survives.
    drop((keeper, first));

    let second = Process::new(&folder);
    let loaded = second.load(clock.at(60_000));
    let expected = Taken {
        vehicles: 3,
        positions: 2,
        skipped: 0,
    };
    assert_eq!(loaded.taken, expected);
    assert_eq!(
        (
            second.place("van"),
            second.place("tram"),
            second.place("bus")
        ),
        (Some(10), Some(20), None)
    );
    assert_eq!(second.presence("van"), (PresenceState::Offline, 30_000));
    assert_eq!(second.presence("bus"), (PresenceState::Offline, 300));
    assert_eq!(
        second.presence("tram"),
        (PresenceState::Offline, 0),
        "never connected"
    );
    assert_eq!(second.fleet.registry.find(berlin, "ghost"), None);
}

#[test]
fn the_last_snapshot_has_everything_and_only_this_user_can_read_it() {
    let (folder, clock) = set_up();
    let inner = folder.path().join("a/state");
    drop(Folder::open(&inner).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);

    let first = Process::new(&folder);
    let keeper = first.quiet(clock.at(0));
    first.report("van", 10);
    keeper.stop(clock.at(1_000));
    assert_eq!(mode(&first.folder.snapshot()), 0o600);
    assert_eq!(mode(&folder.path().join("lock")), 0o600);
    drop(first);
    let second = Process::new(&folder);
    second.load(clock.at(2_000));
    assert_eq!(second.place("van"), Some(10));
}

#[test]
fn a_damaged_snapshot_changes_nothing_and_is_set_aside() {
    let (folder, clock) = set_up();
    let first = Process::new(&folder);
    first.report("van", 10);
    first.quiet(clock.at(0)).stop(clock.at(1_000));
    let path = first.folder.snapshot();
    drop(first);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();

    let second = Process::new(&folder);
    let loaded = second.load(clock.at(2_000));
    assert_eq!(loaded.taken, Taken::default());
    assert_eq!(second.fleet.registry.fleets(), 0, "not even names");
    assert_eq!(second.metrics.files_refused.get(), 1);
    let refused = folder.path().join("positions.snapshot.refused");
    assert_eq!(fs::read(refused).unwrap(), bytes);
    assert_eq!(names(&folder).len(), 1);
}

#[test]
fn what_there_is_no_room_for_is_skipped_and_counted() {
    let (folder, clock) = set_up();
    let first = Process::new(&folder);
    for id in ["a", "b", "long-id", "c"] {
        first.report(id, 10);
    }
    let other = first.fleet.registry.fleet("other").unwrap();
    let stranger = first.fleet.registry.vehicle(other, "a").unwrap();
    let fix = Fix {
        time_ms: 1,
        ..Fix::default()
    };
    first.fleet.positions.write(stranger, &fix, 1);
    first.quiet(clock.at(0)).stop(clock.at(1_000));
    drop(first);

    let mut limits = Config::defaults().unwrap().limits;
    limits.vehicles_max = 2;
    limits.fleets_max = 1;
    limits.vehicle_id_bytes_max = 3;
    let second = Process::with(&folder, limits);
    let loaded = second.load(clock.at(2_000));
    assert_eq!((loaded.taken.vehicles, loaded.taken.skipped), (5, 3));
    assert_eq!(second.metrics.skipped.get(), 3);
    assert_eq!((second.place("a"), second.place("b")), (Some(10), Some(10)));
    assert_eq!(second.place("long-id"), None);
}

#[test]
fn a_draining_process_hands_over_and_the_newer_position_wins() {
    let (folder, clock) = set_up();
    let old = Process::new(&folder);
    let mut old_keeper = old.quiet(clock.at(0));
    for id in ["van", "bus", "tram"] {
        old.connect(id, clock.at(100));
        old.report(id, 10);
    }
    let new = Process::new(&folder);
    let told = RefCell::new(Vec::new());
    let announce = |_: FleetId, positions: &[VehicleIndex], presence: &[VehicleIndex]| {
        told.borrow_mut()
            .push((positions.to_vec(), presence.to_vec()));
    };
    let mut new_keeper = Keeper::new(new.load(clock.at(0)), &announce, clock.at(0));
    // The bus has come over by itself.
    new.connect("bus", clock.at(400));
    new.report("bus", 20);

    old_keeper.drain(clock.at(60_000).unix_ms, clock.at(1_000));
    assert_eq!(old.metrics.handovers.get(), 1);
    new_keeper.step(clock.at(1_500));
    assert_eq!(
        (new.place("van"), new.place("bus"), old.place("bus")),
        (Some(10), Some(20), Some(10))
    );
    assert_eq!(new.presence("van"), (PresenceState::Online, 100));
    assert_eq!(new.presence("bus"), (PresenceState::Online, 400), "its own");
    let (van, tram) = (new.vehicle("van"), new.vehicle("tram"));
    assert_eq!(told.take(), [(vec![van, tram], vec![van, tram])]);
    assert_eq!(new.metrics.handover_positions.get(), 2);
    assert_eq!(
        writer_of(&new.folder.snapshot()),
        new.folder.instance(),
        "what was taken is written at once"
    );

    // The van goes on reporting there; the tram comes over, and a late report of its old connection is older.
    old.report("van", 30);
    old.report("tram", 11);
    new.connect("tram", clock.at(1_600));
    new.report("tram", 40);
    old_keeper.step(clock.at(2_000));
    new_keeper.step(clock.at(2_100));
    assert_eq!((new.place("van"), new.place("tram")), (Some(30), Some(40)));
    assert_eq!(told.take(), [(vec![van], vec![])]);
    assert_eq!(names(&folder).len(), 1, "only the snapshot");
    old_keeper.step(clock.at(2_500));
    assert_eq!(names(&folder).len(), 1, "there is nothing to hand over");

    old.report("van", 31);
    let before = fs::read(new.folder.snapshot()).unwrap();
    old_keeper.step(clock.at(31_000));
    let now = fs::read(new.folder.snapshot()).unwrap();
    assert_eq!(now, before, "it is time, but the successor's stays");
    old.report("van", 32);
    old_keeper.stop(clock.at(31_100));
    let now = fs::read(new.folder.snapshot()).unwrap();
    assert_eq!(now, before, "and at the end");
    new_keeper.step(clock.at(31_200));
    assert_eq!(new.place("van"), Some(32));

    // The van never comes.
    told.take();
    new_keeper.step(clock.at(59_999));
    assert_eq!(new.presence("van"), (PresenceState::Online, 100));
    new_keeper.step(clock.at(60_000));
    assert_eq!(new.presence("van"), (PresenceState::Offline, 60_000));
    assert_eq!(
        new.presence("tram"),
        (PresenceState::Online, 100),
        "no flap"
    );
    assert_eq!(told.take(), [(vec![], vec![van])]);
}

#[test]
fn a_later_state_is_not_undone_by_an_earlier_one() {
    let (folder, clock) = set_up();
    let old = Process::new(&folder);
    let mut old_keeper = old.quiet(clock.at(0));
    // The old process does not know yet that the van's link is gone.
    old.connect("van", clock.at(100));
    old.connect("bus", clock.at(900));
    old_keeper.step(clock.at(30_000));
    let new = Process::new(&folder);
    let mut new_keeper = new.quiet(clock.at(31_000));
    assert_eq!(new.presence("van"), (PresenceState::Offline, 30_000));
    new.connect("van", clock.at(32_000));
    new.disconnect("van", clock.at(33_000));
    old_keeper.drain(clock.at(90_000).unix_ms, clock.at(34_000));
    new_keeper.step(clock.at(34_100));
    assert_eq!(new.presence("van"), (PresenceState::Offline, 33_000));
    assert_eq!(
        new.presence("bus"),
        (PresenceState::Online, 900),
        "the snapshot only assumed that it was gone"
    );
}

#[test]
fn nothing_is_written_while_nobody_takes_it() {
    let (folder, clock) = set_up();
    let old = Process::new(&folder);
    let mut old_keeper = old.quiet(clock.at(0));
    old.report("van", 10);
    old_keeper.drain(clock.at(60_000).unix_ms, clock.at(1_000));
    for n in 0..10 {
        old.report("van", 20 + n);
        old_keeper.step(clock.at(1_500 + n * 500));
    }
    assert_eq!(old.metrics.handovers.get(), 1);
    // A successor that comes late gets what was kept back.
    let new = Process::new(&folder);
    let mut new_keeper = new.quiet(clock.at(7_000));
    assert_eq!(new.place("van"), Some(10));
    old_keeper.step(clock.at(7_500));
    new_keeper.step(clock.at(7_600));
    assert_eq!(new.place("van"), Some(29));
}

#[test]
fn without_a_successor_a_snapshot_is_all_that_stays() {
    let (folder, clock) = set_up();
    let old = Process::new(&folder);
    let mut old_keeper = old.quiet(clock.at(0));
    old.report("van", 10);
    old_keeper.drain(clock.at(60_000).unix_ms, clock.at(1_000));
    assert_eq!(names(&folder).len(), 1);
    old.report("van", 11);
    old_keeper.stop(clock.at(2_000));
    assert_eq!(
        names(&folder),
        BTreeSet::from(["positions.snapshot".to_owned()])
    );
    drop(old);
    let new = Process::new(&folder);
    new.load(clock.at(3_000));
    assert_eq!(new.place("van"), Some(11));
}

#[test]
fn a_process_that_does_not_drain_leaves_its_last_word_to_a_successor() {
    let (folder, clock) = set_up();
    let old = Process::new(&folder);
    let old_keeper = old.quiet(clock.at(0));
    let new = Process::new(&folder);
    let mut new_keeper = new.quiet(clock.at(500));
    old.report("van", 10);
    old.connect("van", clock.at(100));
    old.disconnect("van", clock.at(900));
    old_keeper.stop(clock.at(1_000));
    new_keeper.step(clock.at(1_500));
    assert_eq!(new.place("van"), Some(10));
    assert_eq!(new.presence("van"), (PresenceState::Offline, 900));
}

#[test]
fn the_last_one_gathers_what_the_others_left() {
    let (folder, clock) = set_up();
    let old = Process::new(&folder);
    let old_keeper = old.quiet(clock.at(0));
    old.report("van", 10);
    let new = Process::new(&folder);
    let mut new_keeper = new.quiet(clock.at(500));
    new.report("bus", 20);
    new_keeper.step(clock.at(31_000));
    let third = Process::new(&folder);
    let third_keeper = third.quiet(clock.at(31_500));
    third.report("tram", 30);
    third_keeper.stop(clock.at(32_000));
    assert_eq!(names(&folder).len(), 2, "a snapshot and a handover");
    // Both are killed. The old one goes on, and ends in order.
    drop((new_keeper, new, third));
    old_keeper.stop(clock.at(33_000));
    assert_eq!(
        names(&folder),
        BTreeSet::from(["positions.snapshot".to_owned()])
    );
    drop(old);
    let next = Process::new(&folder);
    next.load(clock.at(34_000));
    let places = ["van", "bus", "tram"].map(|id| next.place(id));
    assert_eq!(places, [Some(10), Some(20), Some(30)]);
}

#[test]
fn what_a_dead_process_left_is_taken_at_the_start() {
    for (start_ms, van) in [
        // Soon enough, it may still come; late, it is gone.
        (40_000, (PresenceState::Stale, 700)),
        (60_000, (PresenceState::Offline, 31_000)),
    ] {
        let (folder, clock) = set_up();
        let old = Process::new(&folder);
        let mut old_keeper = old.quiet(clock.at(0));
        old.report("van", 10);
        old.connect("van", clock.at(100));
        let holder = Holder(NonZeroU64::MIN);
        let vehicle = old.vehicle("van");
        old.fleet
            .presence
            .set_stale(vehicle, holder, true, clock.at(700).unix_ms);
        old_keeper.step(clock.at(30_000));
        old.report("van", 11);
        old_keeper.drain(clock.at(60_000).unix_ms, clock.at(31_000));
        // It is killed here, and so is what it was writing.
        let half = format!("tmp-{:016x}-abc", old.folder.instance());
        fs::write(folder.path().join(&half), b"LONG").unwrap();
        let alive = format!("instance-{:016x}", old.folder.instance());
        drop((old_keeper, old));
        fs::write(folder.path().join(&alive), b"").unwrap();

        let new = Process::new(&folder);
        let mut keeper = new.quiet(clock.at(start_ms));
        assert_eq!(new.place("van"), Some(11), "newer than the snapshot's");
        assert_eq!(
            names(&folder),
            BTreeSet::from(["positions.snapshot".to_owned()])
        );
        assert!(!folder.path().join(&alive).exists());
        assert_eq!(new.presence("van"), van);
        keeper.step(clock.at(60_000));
        assert_eq!(new.presence("van").0, PresenceState::Offline);
    }
}

#[test]
fn a_handover_of_another_version_is_set_aside_once() {
    let (folder, clock) = set_up();
    let old = Process::new(&folder);
    let mut old_keeper = old.quiet(clock.at(0));
    old.report("van", 10);
    old_keeper.drain(clock.at(60_000).unix_ms, clock.at(1_000));
    let name = names(&folder).pop_first().unwrap();
    let mut bytes = fs::read(folder.path().join(&name)).unwrap();
    bytes[8] += 1;
    fs::write(folder.path().join(&name), &bytes).unwrap();
    let new = Process::new(&folder);
    let mut new_keeper = new.quiet(clock.at(2_000));
    for n in 0..4 {
        old.report("van", 20 + n);
        old_keeper.step(clock.at(2_500 + n * 500));
        new_keeper.step(clock.at(2_600 + n * 500));
    }
    assert_eq!(new.metrics.files_refused.get(), 1);
    assert_eq!(names(&folder), BTreeSet::from([format!("{name}.refused")]));
    assert_eq!(new.place("van"), None);
}

#[test]
fn a_failure_to_write_is_counted_and_tried_again() {
    let (folder, clock) = set_up();
    let first = Process::new(&folder);
    let mut keeper = first.quiet(clock.at(0));
    first.report("van", 10);
    let away = folder.path().with_extension("away");
    fs::rename(folder.path(), &away).unwrap();
    keeper.step(clock.at(30_000));
    assert!(first.metrics.errors.get() >= 1);
    assert_eq!(first.metrics.snapshots.get(), 0);
    fs::rename(&away, folder.path()).unwrap();
    keeper.step(clock.at(60_000));
    assert_eq!(first.metrics.snapshots.get(), 1);
}

#[test]
fn a_folder_that_cannot_be_made_is_said_with_its_name() {
    let (folder, _) = set_up();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = Folder::open(&file.join("state")).unwrap_err().to_string();
    assert!(
        error.contains("file/state") && error.contains("state.directory"),
        "{error}"
    );
}

#[test]
fn the_thread_keeps_and_stops() {
    let (folder, _) = set_up();
    let now = |ms| Clock(Instant::now()).at(ms);
    let first = Process::new(&folder);
    let handle = first.load(now(0)).start(|_, _, _| {}, || {}).unwrap();
    first.report("van", 10);
    handle.drain(Duration::from_secs(1));
    handle.stop();
    assert_eq!(names(&folder).len(), 1);
    drop(first);
    let second = Process::new(&folder);
    second.load(now(1_000));
    assert_eq!(second.place("van"), Some(10));
}
