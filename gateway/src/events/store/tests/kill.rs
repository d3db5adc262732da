//! A process that is killed while it writes.

use std::{
    env,
    io::{BufRead, BufReader, Write, stdout},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::*;

const CHILD: &str = "LONGHAUL_TEST_STORE_CHILD";
const ROUNDS: u64 = 10;

/// Not a test, but what the killed process runs: writes batches, and says what is durable.
#[test]
fn a_process_that_writes() {
    let Some(path) = env::var_os(CHILD) else {
        return;
    };
    let (mut store, recovered) = open(Path::new(&path));
    assert_eq!(recovered.set_aside, None);
    let mut last = last_of(&recovered);
    let mut batch = Batch::default();
    let mut random = fastrand::Rng::new();
    loop {
        let through = last + random.u64(1..60);
        batch.clear();
        add(&mut batch, FLEET, last + 1..=through);
        batch.cursor(b"last", Some(&through.to_le_bytes()));
        batch.sender(FLEET, "truck", &through.to_le_bytes());
        store.commit(&batch).unwrap();
        last = through;
        writeln!(stdout(), "durable {last}").unwrap();
        if random.u8(0..50) == 0 {
            store.retain(FLEET, 0, 3 << 20).unwrap();
        }
    }
}

#[test]
fn what_was_durable_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut durable = 0;
    let mut random = fastrand::Rng::with_seed(1);
    for round in 0..ROUNDS {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([
                "events::store::tests::kill::a_process_that_writes",
                "--exact",
                "--nocapture",
            ])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .filter_map(|line| line.strip_prefix("durable ")?.parse::<u64>().ok())
                .last()
        });
        thread::sleep(Duration::from_millis(random.u64(60..400)));
        child.kill().unwrap();
        child.wait().unwrap();
        durable = said.join().unwrap().unwrap_or(durable);

        let (store, recovered) = open(folder.path());
        assert_eq!(recovered.set_aside, None, "round {round}");
        let last = last_of(&recovered);
        assert!(last >= durable, "round {round}: {last} of {durable}");
        if last > 0 {
            assert_eq!(verify(&store.reader(), FLEET, u64::MAX).1, last);
            // All of a batch, or nothing.
            let cursor = last.to_le_bytes().to_vec();
            assert_eq!(recovered.cursors, [(b"last".to_vec(), cursor.clone())]);
            assert_eq!(store.sender(FLEET, "truck").unwrap(), Some(cursor));
        }
        durable = last;
    }
    assert!(
        durable > 100,
        "the child has written next to nothing: {durable}"
    );
}
