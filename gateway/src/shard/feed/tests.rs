use longhaul_codec::Event;
use longhaul_filter_engine::VehicleIndex;

use super::*;

const LIMITS: FeedLimits = FeedLimits {
    window: 3,
    bytes_max: 10_000,
};

fn logged(sequence: u64, topic: &str) -> Arc<Logged> {
    let event = Event {
        topic: topic.to_owned(),
        ..Event::default()
    };
    Arc::new(Logged::new(event, VehicleIndex(1), sequence, 7))
}

fn taken(feed: &mut Feed) -> Vec<(u64, bool)> {
    let mut due = Vec::new();
    feed.take(usize::MAX, 0, &mut due);
    due.iter()
        .map(|due| (due.logged.sequence, due.again))
        .collect()
}

fn live() -> Feed {
    let mut feed = Feed::new(TopicFilter::All, true, 10, 10);
    assert_eq!(feed.progress, Progress::Behind(11));
    feed.progress = Progress::Live;
    feed
}

#[test]
fn a_full_window_falls_behind_and_loses_nothing() {
    let mut feed = live();
    for sequence in 11..=15 {
        feed.offer(&logged(sequence, "door"), LIMITS);
    }
    assert_eq!(
        taken(&mut feed),
        [(11, false), (12, false), (13, false)],
        "the window"
    );
    assert_eq!(feed.progress, Progress::Behind(14));
    assert_eq!(feed.room(LIMITS), 0);
    assert_eq!(feed.ack(12, 0, 0), Ok(2));
    assert_eq!(feed.room(LIMITS), 2);
    assert_eq!(feed.ack(12, 0, 0), Ok(0), "again");
    assert_eq!(feed.ack(14, 0, 0), Err(BadAck::NotSent(13)));
    assert_eq!(feed.acked, 12);
}

#[test]
fn what_is_not_acknowledged_in_time_is_sent_again_and_says_so() {
    let mut feed = live();
    for sequence in [11, 13] {
        feed.offer(&logged(sequence, "door"), LIMITS);
    }
    assert_eq!(taken(&mut feed), [(11, false), (13, false)]);
    assert_eq!(feed.ack(11, 1_000, 0), Ok(1));
    assert!(!feed.is_overdue(1_999, 1_000) && feed.is_overdue(2_000, 1_000));
    feed.offer(&logged(0, "passing"), LIMITS);
    feed.go_back();
    assert_eq!(feed.progress, Progress::Behind(12));
    feed.push(logged(13, "door"));
    feed.push(logged(14, "door"));
    assert_eq!(taken(&mut feed), [(0, false), (13, true), (14, false)]);
}

#[test]
fn whoever_does_not_acknowledge_loses_the_oldest() {
    let mut feed = Feed::new(TopicFilter::Some(vec!["door".into()]), false, 0, 0);
    let bytes = logged(1, "door").bytes();
    let limits = FeedLimits {
        window: 1,
        bytes_max: 2 * bytes,
    };
    let mut dropped = 0;
    for sequence in 1..=5 {
        dropped += feed.offer(&logged(sequence, "door"), limits).1;
    }
    let other = feed.offer(&logged(6, "fence"), limits);
    assert_eq!(other, (false, 0), "not its topic");
    assert_eq!(feed.offer(&logged(0, "door"), limits), (true, 1), "full");
    assert_eq!(dropped, 3);
    assert_eq!(feed.take_news(0), (Vec::new(), 4));
    assert_eq!(taken(&mut feed), [(4, false), (5, false)]);
    assert!(!feed.is_ready());
}

#[test]
fn a_gap_is_heard_before_the_cursor_passes_it() {
    let mut feed = live();
    feed.missing(EventRange {
        epoch: 7,
        first: 11,
        last: 15,
    });
    feed.settle(20, 0, 0);
    assert_eq!(feed.acked, 10, "it is not told yet");
    feed.take_news(100);
    feed.settle(20, 100, 0);
    assert_eq!(feed.acked, 10, "it may be lost on the way");
    feed.settle(20, 100 + GAP_SETTLES_MS, 0);
    assert_eq!(feed.acked, 20);
}

#[test]
fn what_was_looked_at_does_not_come_again() {
    let mut feed = live();
    feed.looked(20);
    assert_eq!(feed.progress, Progress::Behind(21));
    feed.live(19);
    assert_eq!(feed.offer(&logged(20, "door"), LIMITS), (false, 0));
    feed.missed(12);
    assert_eq!(feed.progress, Progress::Behind(21), "not backwards");
    feed.live(30);
    feed.stop_at(25);
    feed.looked(27);
    assert_eq!(feed.progress, Progress::Behind(28), "none left out");
    feed.progress = Progress::Reading(Reading {
        from: 21,
        ticket: 1,
        since_ms: 0,
    });
    feed.push(logged(21, "door"));
    feed.push(logged(22, "fence"));
    feed.refilter(|logged| logged.topic() == "fence");
    assert_eq!(feed.progress, Progress::Behind(21), "it is read anew");
    assert_eq!(taken(&mut feed), [(22, false)]);
}

#[test]
fn a_quiet_one_moves_on_and_gaps_are_one() {
    let mut feed = live();
    feed.settle(20, 0, 0);
    assert_eq!(feed.acked, 20, "none of it was for it");
    feed.offer(&logged(21, "door"), LIMITS);
    feed.settle(30, 0, 0);
    assert_eq!(feed.acked, 20, "one waits");
    let range = |first, last| EventRange {
        epoch: 7,
        first,
        last,
    };
    feed.missing(range(5, 9));
    feed.missing(range(10, 12));
    feed.missing(range(20, 22));
    assert_eq!(feed.take_news(0).0, [range(5, 12), range(20, 22)]);
    feed.missed(25);
    assert_eq!(feed.progress, Progress::Behind(26));
}
