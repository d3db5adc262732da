//! The caller's side.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use longhaul_codec::{Command, CommandResult, CommandStatus, Encoder, Fix, FixError, Message};
use tokio::sync::{Mutex, Notify, broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::EventError;
use crate::config::Config;
use crate::event::Event;
use crate::link::driver::Driver;
use crate::queue::{Opened, PublishError, Queue, QueueError};
use crate::session::commands::{AnswerError, IN_HAND_MAX};
use crate::shared::{Shared, now_ms};
use crate::status::{Counters, Notice, State, StopReason, Tally, count};

/// Events with QoS 0 that may wait for a busy socket.
const FLEETING_MAX: usize = 64;
/// Notices that may wait for a listener; then it misses the oldest, and is told how many.
const NOTICES_MAX: usize = 4_096;
/// The longest result: the gateway's limit of a message, less what is around it.
const RESULT_BYTES_MAX: usize = 60_000;

/// A vehicle's client. It can be cloned; when the last one is dropped, the connection ends, and what is in the queue
/// stays there.
#[derive(Clone, Debug)]
pub struct Vehicle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    fleeting: mpsc::Sender<Bytes>,
    leave: watch::Sender<bool>,
    driver: Mutex<Option<JoinHandle<()>>>,
    opened: Opened,
}

/// An event that was handed over and is not durable yet.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<u64, PublishError>>);

impl Pending {
    /// Waits until it is durable, and gives its number.
    ///
    /// # Errors
    /// It was not taken.
    pub async fn durable(self) -> Result<u64, PublishError> {
        self.0.await.unwrap_or(Err(PublishError::Closed))
    }
}

impl Vehicle {
    /// Opens the queue and begins to connect, on the tokio runtime that this is called on. Does not wait for a
    /// connection: a vehicle starts in an underground car park.
    ///
    /// The receiver gives commands. Each is given once and has to be answered with [`Vehicle::answer`]. Drop the
    /// receiver if the vehicle takes none: they are refused then.
    ///
    /// # Errors
    /// The queue cannot be opened.
    pub fn start(config: Config) -> Result<(Self, mpsc::Receiver<Command>), QueueError> {
        let (notices, _) = broadcast::channel(NOTICES_MAX);
        let (state, _) = watch::channel(State::Connecting { attempt: 1 });
        let wake = Arc::new(Notify::new());
        let tally = Arc::new(Tally::default());
        let (queue, opened) = Queue::open(
            &config.queue,
            Box::new({
                let (notices, tally) = (notices.clone(), Arc::clone(&tally));
                move |dropped: &[u64]| {
                    count(&tally.dropped, dropped.len() as u64);
                    for &id in dropped {
                        let _ = notices.send(Notice::Dropped { id });
                    }
                }
            }),
            {
                let (wake, tally) = (Arc::clone(&wake), Arc::clone(&tally));
                move |written| {
                    count(&tally.published, written as u64);
                    wake.notify_one();
                }
            },
        )?;
        let shared = Arc::new(Shared::new(queue, state, notices, tally, wake));
        let (commands, handed_out) = mpsc::channel(IN_HAND_MAX);
        let (fleeting, to_send) = mpsc::channel(FLEETING_MAX);
        let (leave, leaving) = watch::channel(false);
        if opened.events > 0 {
            tracing::info!(events = opened.events, "the queue has events from before");
        }
        let driver = Driver::new(
            Arc::new(config),
            Arc::clone(&shared),
            commands,
            to_send,
            leaving,
        );
        let inner = Inner {
            shared,
            fleeting,
            leave,
            driver: Mutex::new(Some(tokio::spawn(driver.run()))),
            opened,
        };
        let inner = Arc::new(inner);
        Ok((Self { inner }, handed_out))
    }

    /// Reports where the vehicle is. Sent as soon as the connection takes it; a newer position takes the place of one
    /// that still waits. A time of 0 becomes now.
    ///
    /// # Errors
    /// No place on earth.
    pub fn report(&self, mut fix: Fix) -> Result<(), FixError> {
        fix.check()?;
        fix.vehicle = 0;
        self.inner.shared.report(fix, now_ms());
        Ok(())
    }

    /// Publishes an event with QoS 1: when this returns, it is on the disk, and it will reach the gateway at least
    /// once, in the order of publishing. The number is what [`Notice::Acked`] and [`Notice::Refused`] speak of.
    ///
    /// # Errors
    /// The event is not safe, and why.
    pub async fn publish(&self, event: Event) -> Result<u64, PublishError> {
        self.submit(event).await?.durable().await
    }

    /// The first half of [`Vehicle::publish`], for many events: those that are handed over while the disk is busy share
    /// one fsync. The order of these calls is the order of the events.
    ///
    /// # Errors
    /// The event is none that a gateway would take, or the client is closed.
    pub async fn submit(&self, event: Event) -> Result<Pending, PublishError> {
        let event = event.into_wire(1, now_ms())?;
        self.inner.shared.queue.submit(event).await.map(Pending)
    }

    /// Sends an event with QoS 0: at most once, if there is a connection with room. False: it was dropped.
    ///
    /// # Errors
    /// The event is none that a gateway would take.
    pub fn send(&self, event: Event) -> Result<bool, EventError> {
        let event = Message::Event(event.into_wire(0, now_ms())?);
        let shared = &self.inner.shared;
        let connected = matches!(
            *shared.state.borrow(),
            State::Connected { .. } | State::Draining
        );
        let bytes = Bytes::copy_from_slice(Encoder::new().message(&event).payload());
        let sent = connected && self.inner.fleeting.try_send(bytes).is_ok();
        if !sent {
            count(&shared.tally.fleeting_dropped, 1);
        }
        Ok(sent)
    }

    /// Answers a command. If there is no connection, the result goes out with the next one.
    ///
    /// # Errors
    /// The command is not waiting for one, or the result cannot be sent.
    pub fn answer(&self, result: CommandResult) -> Result<(), AnswerError> {
        let bytes = result.payload.len() + result.content_type.as_ref().map_or(0, String::len);
        if bytes > RESULT_BYTES_MAX {
            let max = RESULT_BYTES_MAX;
            return Err(AnswerError::TooLarge { bytes, max });
        }
        if result.status == CommandStatus::Expired {
            return Err(AnswerError::Expired);
        }
        let shared = &self.inner.shared;
        shared.book().answer(result)?;
        shared.wake.notify_one();
        Ok(())
    }

    /// Where the client is in its life, now and from now on.
    pub fn state(&self) -> watch::Receiver<State> {
        self.inner.shared.state.subscribe()
    }

    /// What becomes of events from now on. Whoever reads too slowly misses the oldest, and is told how many.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.inner.shared.notices.subscribe()
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        let shared = &self.inner.shared;
        shared.tally.read(shared.queue.size())
    }

    /// Waits until the gateway has every event, or this time is over, or it is of no use to wait; then closes the
    /// connection and the queue. Gives how many events are left, which the next client of this queue will send.
    pub async fn close(&self, linger: Duration) -> usize {
        let shared = &self.inner.shared;
        let deadline = Instant::now() + linger;
        let (mut notices, mut state) = (shared.notices.subscribe(), shared.state.subscribe());
        let empty = async {
            while shared.queue.size().0 > 0 {
                // Woken by whatever becomes of an event, and by a moment, should a notice be missed.
                let moment = Duration::from_millis(200);
                let _ = tokio::time::timeout(moment, notices.recv()).await;
            }
        };
        let stopped = state.wait_for(|state| matches!(state, State::Stopped { .. }));
        tokio::select! {
            () = empty => {}
            _ = stopped => {}
            () = tokio::time::sleep_until(deadline.into()) => {}
        }
        self.inner.leave.send_replace(true);
        if let Some(driver) = self.inner.driver.lock().await.take() {
            let _ = driver.await;
        }
        shared.queue.close().await;
        shared.queue.size().0
    }

    /// What was in the queue when it was opened, and whether it had to be begun anew.
    pub fn opened(&self) -> &Opened {
        &self.inner.opened
    }

    /// Why it stopped, if it did.
    pub fn stopped(&self) -> Option<StopReason> {
        match &*self.inner.shared.state.borrow() {
            State::Stopped { why } => Some(why.clone()),
            _ => None,
        }
    }
}
