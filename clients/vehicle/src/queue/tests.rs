use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use longhaul_codec::{Message, MessageRef, decode};
use tempfile::TempDir;

use super::*;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

fn open(config: &QueueConfig) -> (Queue, Opened) {
    Queue::open(config, Box::new(|_| {}), |_| {}).expect("it opens")
}

fn event(text: &str) -> Event {
    Event {
        topic: "test".to_owned(),
        qos: 1,
        payload: text.as_bytes().to_vec(),
        ..Event::default()
    }
}

async fn publish(queue: &Queue, text: &str) -> Result<u64, PublishError> {
    let answer = queue.submit(event(text)).await?;
    answer.await.unwrap_or(Err(PublishError::Closed))
}

/// Number and payload of everything that is there.
fn contents(queue: &Queue) -> Vec<(u64, String)> {
    let (mut all, mut after) = (Vec::new(), 0);
    while let Some((id, bytes)) = queue.next_after(after) {
        let Ok(MessageRef::Event(event)) = decode(&bytes) else {
            panic!("it is an event")
        };
        let Message::Event(event) = Message::from_ref(MessageRef::Event(event)) else {
            unreachable!("it is an event")
        };
        assert_eq!(event.message_id, id);
        all.push((id, String::from_utf8(event.payload).expect("text")));
        after = id;
    }
    queue.hold_to(0);
    all
}

#[tokio::test]
async fn what_was_published_is_there_again_and_numbers_go_on() {
    let folder = folder();
    let config = QueueConfig::new(folder.path().join("queue"));
    let (queue, opened) = open(&config);
    assert_eq!(opened, Opened::default());
    let mut ids = Vec::new();
    for text in ["a", "b", "c"] {
        ids.push(publish(&queue, text).await.expect("there is room"));
    }
    assert!(ids.is_sorted() && ids[0] > 1_700_000_000_000_000, "{ids:?}");
    assert!(queue.remove(ids[1]) && !queue.remove(ids[1]));
    queue.close().await;

    let (queue, opened) = open(&config);
    assert_eq!(opened.events, 2);
    let expected = [(ids[0], "a".to_owned()), (ids[2], "c".to_owned())];
    assert_eq!(contents(&queue), expected);
    for (id, _) in expected {
        assert!(queue.remove(id));
    }
    assert_eq!(queue.size(), (0, 0));
    queue.close().await;
    assert_eq!(publish(&queue, "d").await, Err(PublishError::Closed));
}

#[tokio::test]
async fn the_highest_number_survives_an_empty_queue_and_a_clock_set_back() {
    let folder = folder();
    let file = folder.path().join("queue");
    let future = u64::MAX / 2;
    {
        let (mut store, _) = Store::open(&file).expect("it opens");
        let changes = store::Changes {
            last_id: future,
            ..store::Changes::default()
        };
        store.commit(&changes).expect("it is written");
    }
    let (queue, _) = open(&QueueConfig::new(&file));
    assert_eq!(publish(&queue, "a").await, Ok(future + 1));
}

#[tokio::test]
async fn a_second_process_is_told() {
    let folder = folder();
    let config = QueueConfig::new(folder.path().join("queue"));
    let (_queue, _) = open(&config);
    let error = Queue::open(&config, Box::new(|_| {}), |_| {}).unwrap_err();
    assert_eq!(error, QueueError::InUse(config.file.clone()));
    assert!(error.to_string().contains("another process"));
}

#[test]
fn a_missing_folder_is_named() {
    let config = QueueConfig::new("/nonexistent/folder/queue");
    let error = Queue::open(&config, Box::new(|_| {}), |_| {}).unwrap_err();
    assert!(
        error.to_string().contains("/nonexistent/folder/queue"),
        "{error}"
    );
}

#[tokio::test]
async fn a_full_queue_refuses() {
    let folder = folder();
    let mut config = QueueConfig::new(folder.path().join("queue"));
    config.events_max = 2;
    let (queue, _) = open(&config);
    let first = publish(&queue, "a").await.expect("there is room");
    publish(&queue, "b").await.expect("there is room");
    let full = publish(&queue, "c").await;
    assert!(
        matches!(full, Err(PublishError::Full { events: 2, .. })),
        "{full:?}"
    );
    queue.remove(first);
    publish(&queue, "d").await.expect("there is room again");
}

#[tokio::test]
async fn bytes_are_bounded_as_well() {
    let folder = folder();
    let mut config = QueueConfig::new(folder.path().join("queue"));
    config.bytes_max = 1_000;
    let (queue, _) = open(&config);
    let large = "x".repeat(1_000);
    let error = publish(&queue, &large).await;
    assert!(
        matches!(error, Err(PublishError::TooLarge { max: 1_000, .. })),
        "{error:?}"
    );
    let mut taken = 0;
    while publish(&queue, &"x".repeat(100)).await.is_ok() {
        taken += 1;
    }
    let (events, bytes) = queue.size();
    assert!(
        events == taken && bytes <= 1_000 && bytes > 700,
        "{events} {bytes}"
    );
}

#[tokio::test]
async fn the_oldest_makes_room_but_not_one_under_way() {
    let folder = folder();
    let mut config = QueueConfig::new(folder.path().join("queue"));
    config.events_max = 4;
    config.when_full = WhenFull::DropOldest;
    let dropped = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&dropped);
    let on_dropped: OnDropped = Box::new(move |ids| {
        counted.fetch_add(ids.len(), Ordering::Relaxed);
    });
    let (queue, _) = Queue::open(&config, on_dropped, |_| {}).expect("it opens");
    for text in ["a", "b", "c", "d"] {
        publish(&queue, text).await.expect("there is room");
    }
    // "a" is being sent.
    queue.next_after(0).expect("there is one");
    // More at once than the queue holds: none is refused.
    let mut pending = Vec::new();
    for text in ["e", "f", "g", "h", "i"] {
        pending.push(queue.submit(event(text)).await.expect("it is open"));
    }
    for answer in pending {
        answer.await.expect("it answers").expect("there is room");
    }
    let texts: Vec<_> = contents(&queue).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["a", "g", "h", "i"]);
    assert_eq!(dropped.load(Ordering::Relaxed), 5);
    queue.close().await;
    let (queue, _) = open(&config);
    assert_eq!(contents(&queue).len(), 4, "the file agrees");
}

#[tokio::test]
async fn many_share_an_fsync() {
    let folder = folder();
    let config = QueueConfig::new(folder.path().join("queue"));
    let written = Arc::new(AtomicUsize::new(0));
    let commits = Arc::clone(&written);
    let (queue, _) = Queue::open(&config, Box::new(|_| {}), move |_| {
        commits.fetch_add(1, Ordering::Relaxed);
    })
    .expect("it opens");
    let mut pending = Vec::new();
    for n in 0..500 {
        pending.push(
            queue
                .submit(event(&n.to_string()))
                .await
                .expect("it is open"),
        );
    }
    for answer in pending {
        answer.await.expect("it answers").expect("there is room");
    }
    let commits = written.load(Ordering::Relaxed);
    assert!(commits < 100, "{commits} commits for 500 events");
    let texts: Vec<_> = contents(&queue).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn events_of_another_vehicle_are_not_sent() {
    let folder = folder();
    let config = QueueConfig::new(folder.path().join("queue"));
    let (queue, _) = open(&config);
    assert_eq!(queue.belongs_to("demo", "truck-1"), Ok(()));
    let id = publish(&queue, "a").await.expect("there is room");
    queue.close().await;
    let (queue, _) = open(&config);
    assert_eq!(queue.belongs_to("demo", "truck-1"), Ok(()));
    let error = queue.belongs_to("demo", "truck-2").unwrap_err();
    assert!(
        error.contains("truck-1") && error.contains("truck-2"),
        "{error}"
    );
    queue.remove(id);
    assert_eq!(
        queue.belongs_to("demo", "truck-2"),
        Ok(()),
        "nothing is left"
    );
}

/// Files in a folder that begin with this name.
fn named(folder: &Path, prefix: &str) -> usize {
    let entries = fs::read_dir(folder).expect("it is there");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names
        .filter(|name| name.to_string_lossy().starts_with(prefix))
        .count()
}

#[tokio::test]
async fn a_file_that_is_no_queue_is_moved_aside() {
    for content in [&b"not a queue at all"[..], &[0; 5_000]] {
        let folder = folder();
        let config = QueueConfig::new(folder.path().join("queue"));
        fs::write(&config.file, content).expect("it is written");
        let (queue, opened) = open(&config);
        let aside = opened.moved_aside.expect("it was damaged");
        assert_eq!(fs::read(aside).expect("it is there"), content);
        publish(&queue, "a").await.expect("the new one works");
    }
}

/// Flips bits and cuts ends off, anywhere: whatever is opened holds only what was put in, and nothing panics.
#[tokio::test]
async fn damage_anywhere_is_noticed_or_harmless() {
    let folder = folder();
    let config = QueueConfig::new(folder.path().join("queue"));
    let (queue, _) = open(&config);
    for n in 0..40 {
        publish(&queue, &format!("event {n}"))
            .await
            .expect("there is room");
    }
    let all = contents(&queue);
    queue.close().await;
    let good = fs::read(&config.file).expect("it is there");
    let mut rng = fastrand::Rng::with_seed(11);
    let mut aside = 0;
    for round in 0..150 {
        let mut bad = good.clone();
        match round % 3 {
            0 => bad.truncate(rng.usize(1..good.len())),
            1 => {
                let at = rng.usize(..good.len());
                bad[at] ^= 1 << rng.u8(..8);
            }
            _ => {
                // A page that was never written.
                let at = rng.usize(..good.len() / 4_096) * 4_096;
                bad[at..at + 4_096].fill(0);
            }
        }
        let file = folder.path().join(format!("bad-{round}"));
        fs::write(&file, bad).expect("it is written");
        let (queue, opened) = open(&QueueConfig::new(&file));
        for (id, text) in contents(&queue) {
            assert!(all.contains(&(id, text)), "round {round}");
        }
        if opened.moved_aside.is_some() {
            aside += 1;
            assert_eq!(named(folder.path(), &format!("bad-{round}.corrupt-")), 1);
        }
        publish(&queue, "works").await.expect("it goes on");
        queue.close().await;
    }
    assert!(aside > 40, "{aside} of 150 were noticed");
}

/// The child of the next test: publishes until it is killed, and says each number that is durable.
#[tokio::test]
#[ignore = "run by the test that kills it"]
async fn publishes_until_it_is_killed() {
    use std::io::Write;
    let Some(file) = std::env::var_os("LONGHAUL_TEST_QUEUE") else {
        return;
    };
    let mut config = QueueConfig::new(file);
    config.events_max = 1_000_000;
    let (queue, _) = open(&config);
    let queue = Arc::new(queue);
    let mut publishers = Vec::new();
    for _ in 0..8 {
        let queue = Arc::clone(&queue);
        publishers.push(tokio::spawn(async move {
            for n in 0.. {
                let id = publish(&queue, "safe").await.expect("there is room");
                // In one piece, so that a kill does not cut it.
                let say = |line: String| std::io::stderr().lock().write_all(line.as_bytes());
                say(format!("safe {id}\n")).expect("the parent reads");
                // Some are removed, so that this is interrupted as well.
                if n % 3 == 0 {
                    say(format!("gone {id}\n")).expect("the parent reads");
                    queue.remove(id);
                }
            }
        }));
    }
    for publisher in publishers {
        publisher.await.expect("it is killed first");
    }
}

#[tokio::test]
async fn nothing_is_lost_when_the_process_is_killed() {
    use std::collections::BTreeSet;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let folder = folder();
    let config = QueueConfig::new(folder.path().join("queue"));
    let (mut safe, mut gone) = (BTreeSet::new(), BTreeSet::new());
    let mut rng = fastrand::Rng::with_seed(5);
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--ignored", "--exact", "--nocapture"])
            .arg("queue::tests::publishes_until_it_is_killed")
            .env("LONGHAUL_TEST_QUEUE", &config.file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = child.stderr.take().expect("it is piped");
        let reader = std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.collect::<Vec<_>>()
        });
        std::thread::sleep(Duration::from_millis(150 + rng.u64(..400)));
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        for line in reader.join().expect("it reads") {
            match line.split_once(' ') {
                Some(("safe", id)) => drop(safe.insert(id.parse::<u64>().expect("a number"))),
                Some(("gone", id)) => drop(gone.insert(id.parse::<u64>().expect("a number"))),
                _ => {}
            }
        }
        let (queue, opened) = open(&config);
        assert_eq!(opened.moved_aside, None, "round {round}");
        let there: BTreeSet<u64> = contents(&queue).into_iter().map(|(id, _)| id).collect();
        let lost: Vec<_> = safe
            .difference(&gone)
            .filter(|id| !there.contains(id))
            .collect();
        assert!(lost.is_empty(), "round {round}: {lost:?}");
        queue.close().await;
    }
    assert!(safe.len() > 100, "{} events in 12 rounds", safe.len());
}
