//! How the log begins and ends: the folder is opened, or waited for; what was kept comes back; in the end the folder is
//! let go of, so that another process of this node may have it.

use std::{
    collections::HashMap,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use longhaul_codec::ErrorCode;

use super::{
    super::{
        Committed, LogState,
        consumers::Cursor,
        handle::{CommandNews, Inlets, Request},
        hold::Holds,
        replay::{Replay, ReplayRequest},
        store::{Batch, LogFleet, Recovered, Store, StoreError, StoreOptions},
    },
    Ended, Numbered, Place, Published, Refused, Setting, Writer,
    batch::Gathered,
    chores::Chores,
    drain, locked,
    orders::{Orders, refusal},
    post::Post,
    unix_ms,
};
use crate::{
    fleet::Interest,
    shard::{connection::place, inbox::Letter},
};

/// How often a folder that another process has is tried again.
const TRY_EVERY: Duration = Duration::from_millis(100);
/// How often that is said.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// A store, and what was in it.
pub(super) type Opened = (Store, Recovered);

/// The thread that reads. It ends soon after `stop` is dropped.
struct Reading {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// Opens the folder.
pub(super) fn open(setting: &Setting) -> Result<Opened, StoreError> {
    let options = StoreOptions {
        free_bytes_min: setting.events.free_bytes_min,
        ..StoreOptions::default()
    };
    Store::open(&setting.directory, options, unix_ms())
}

/// The thread: until the process ends.
pub(super) fn run(setting: Setting, inlets: Inlets, opened: Option<Opened>) {
    let Inlets { requests, replays } = inlets;
    let mut post = Post::new(Arc::clone(&setting.inboxes), Arc::clone(&setting.metrics));
    let opened = match opened {
        Some(opened) => Ok(opened),
        None => wait(&setting, &requests, &mut post),
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err(Ended::Stopped) => return,
        // It is to go away itself: whoever comes next needs the folder.
        Err(Ended::Closed) => return refuse_all(&setting, &requests, &replays, &mut post),
    };
    let (writer, reading) = match Writer::begin(setting.clone(), opened, (requests, &replays), post)
    {
        Ok(begun) => begun,
        Err(error) => {
            tracing::error!(%error, "the event log cannot start its reader");
            setting.log.set_state(LogState::Off);
            return;
        }
    };
    let (requests, mut post) = writer.until_closed(reading);
    refuse_all(&setting, &requests, &replays, &mut post);
}

/// Until the process ends: shards may still publish, and dashboards may still ask.
fn refuse_all(
    setting: &Setting,
    requests: &Receiver<Request>,
    replays: &Receiver<ReplayRequest>,
    post: &mut Post,
) {
    setting.log.set_state(LogState::Closed);
    loop {
        drain(replays);
        if let Some(Ended::Stopped) = refuse(setting, requests, post, LogState::Closed) {
            return;
        }
    }
}

/// Waits for the folder.
///
/// # Errors
/// How the process ends, or goes away, before that.
fn wait(setting: &Setting, requests: &Receiver<Request>, post: &mut Post) -> Result<Opened, Ended> {
    let mut said = Instant::now();
    loop {
        match open(setting) {
            Ok(opened) => return Ok(opened),
            Err(error) => {
                if said.elapsed() >= SAY_EVERY {
                    said = Instant::now();
                    tracing::warn!(%error, "the event log is not open yet");
                }
            }
        }
        let until = Instant::now() + TRY_EVERY;
        while Instant::now() < until {
            if let Some(ended) = refuse(setting, requests, post, LogState::Opening) {
                return Err(ended);
            }
        }
    }
}

/// Refuses what comes, for a moment.
fn refuse(
    setting: &Setting,
    requests: &Receiver<Request>,
    post: &mut Post,
    state: LogState,
) -> Option<Ended> {
    post.again();
    match requests.recv_timeout(TRY_EVERY) {
        Ok(Request::Publish(events)) => {
            for publish in events {
                setting.log.settled(1, publish.bytes());
                let (shard, key) = place(publish.from);
                let published = Published {
                    key,
                    message_id: publish.event.message_id,
                    verdict: Err(Refused::State(state)),
                };
                post.send(shard, Letter::Published(vec![published]));
            }
            None
        }
        Ok(Request::Command(news)) => {
            // Vehicles and users that are here are announced anew when the log is open.
            if let CommandNews::Sent(asker, command) = news {
                let (shard, key) = place(asker.at);
                let answer = refusal(ErrorCode::NotDurable, command.command_id, state.why_not());
                post.send(shard, Letter::Say(key, answer));
            }
            None
        }
        Err(RecvTimeoutError::Timeout) => None,
        Ok(Request::Close) => Some(Ended::Closed),
        Ok(Request::Stop) | Err(RecvTimeoutError::Disconnected) => Some(Ended::Stopped),
    }
}

impl Writer {
    /// A writer on an open store, and the thread that reads; that one ends with what is returned.
    fn begin(
        setting: Setting,
        (store, recovered): Opened,
        (requests, replays): (Receiver<Request>, &Receiver<ReplayRequest>),
        post: Post,
    ) -> std::io::Result<(Writer, Reading)> {
        let numbered = Numbered::default();
        let (stop, stopped) = bounded(0);
        let thread = Replay {
            requests: replays.clone(),
            reader: store.reader(),
            numbers: Arc::new({
                let numbered = Arc::clone(&numbered);
                move |fleet| locked(&numbered).get(&fleet).copied()
            }),
            log: Arc::clone(&setting.log),
            fleet: Arc::clone(&setting.fleet),
            inboxes: Arc::clone(&setting.inboxes),
            stop: stopped,
        }
        .spawn()?;
        let mut writer = Writer {
            store,
            requests,
            batch: Batch::default(),
            gathered: Gathered::default(),
            places: HashMap::new(),
            numbered,
            by_name: HashMap::new(),
            next_number: 0,
            senders: HashMap::new(),
            touched: HashMap::new(),
            holds: Holds::default(),
            orders: Orders::new(setting.commands),
            post,
            retry_at: None,
            said: None,
            broken: false,
            commit_at: Instant::now(),
            chores: Chores::new(),
            name: String::new(),
            record: Vec::new(),
            setting,
        };
        writer.adopt(recovered);
        writer.open(true);
        Ok((writer, Reading { stop, thread }))
    }

    /// What is on the disk counts.
    pub(super) fn adopt(&mut self, recovered: Recovered) {
        let log = &self.setting.log;
        if let Some(aside) = &recovered.set_aside {
            self.setting.metrics.set_aside.inc();
            tracing::error!(
                damaged = %aside.display(),
                epoch = recovered.epoch,
                "the event log was damaged and has been set aside; a new one begins, and dashboards are told that \
                 events are missing"
            );
        }
        let before = log.epoch();
        let new_epoch = before != 0 && before != recovered.epoch;
        let expires_ms = self.setting.events.consumer_expires_ms;
        log.set_epoch(recovered.epoch, recovered.lost, expires_ms);
        if new_epoch {
            // Ahead of everything else that shards are told of this log.
            self.post.send_all(|| Letter::NewEpoch);
        }
        self.places.clear();
        self.senders.clear();
        self.by_name.clear();
        if new_epoch {
            self.numbered().clear();
        }
        self.next_number = 0;
        for kept in recovered.fleets {
            self.next_number = self.next_number.max(kept.number.0 + 1);
            let at = Place {
                number: LogFleet(kept.number.0),
                last: kept.last,
                known: true,
            };
            match self.setting.fleet.registry.fleet(&kept.name) {
                Ok(fleet) => {
                    let missed = kept.last != self.setting.log.last(fleet);
                    self.setting.log.set_first(fleet, kept.first);
                    self.setting.log.set_last(fleet, kept.last);
                    self.settle(fleet, at);
                    Interest::fence();
                    if missed {
                        // Events whose write was said to have failed, and which are there after all.
                        self.tell(&Arc::new(Committed {
                            fleet,
                            through: kept.last,
                            events: Vec::new(),
                        }));
                    }
                }
                Err(error) => {
                    tracing::warn!(fleet = kept.name, %error, "its events are kept and not served");
                    self.by_name.insert(kept.name, at);
                }
            }
        }
        for (key, value) in &recovered.cursors {
            if let (Ok(key), Some(cursor)) = (std::str::from_utf8(key), Cursor::read(value)) {
                self.setting.log.consumers.restore(key, cursor);
            }
        }
        self.adopt_commands(recovered.commands);
        tracing::info!(
            epoch = recovered.epoch,
            fleets = self.places.len(),
            consumers = self.setting.log.consumers.len(),
            "the event log is open"
        );
    }

    /// Works, lets go of the folder, and gives back what is still needed.
    fn until_closed(mut self, reading: Reading) -> (Receiver<Request>, Post) {
        let ended = self.run();
        self.setting.log.set_state(LogState::Closed);
        self.setting.metrics.writable.set(0);
        if ended == Ended::Stopped {
            // Read again at once, where the process ends.
            let _ = self.setting.log.ask(Request::Stop);
        }
        let Writer {
            store,
            requests,
            post,
            ..
        } = self;
        // Whoever reads has the folder as well.
        let Reading { stop, thread } = reading;
        drop(stop);
        let _ = thread.join();
        drop(store);
        tracing::info!("the event log is closed");
        (requests, post)
    }
}
