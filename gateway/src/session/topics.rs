//! What a dashboard may be told of the vehicles that it watches, and how events come. Pure.

use longhaul_codec::{ErrorCode, ResumePoint, wire};

use super::{
    dashboard::Ids,
    event::{check_text, check_topic},
    rejection::{Bound, Rejection},
};
use crate::limits::{CONSUMER_NAME_BYTES_MAX, TOPICS_MAX};

/// What a dashboard is told of the vehicles that it watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Topics<'a> {
    /// Where they are.
    pub positions: bool,
    /// Who comes, goes or falls silent.
    pub presence: bool,
    /// Events of every topic.
    pub all_events: bool,
    /// Names in the message, those of the above among them.
    names: Ids<'a>,
    /// How many of them are topics of events.
    named: usize,
}

impl<'a> Topics<'a> {
    /// The topic of positions.
    pub const POSITIONS: &'static str = "positions";
    /// The topic of presence.
    pub const PRESENCE: &'static str = "presence";
    /// Events of every topic.
    pub const EVENTS: &'static str = "events";
    /// No event has one of these as its topic.
    pub const RESERVED: [&'static str; 3] = [Self::POSITIONS, Self::PRESENCE, Self::EVENTS];

    pub(super) fn named(
        names: Option<flatbuffers::Vector<'a, flatbuffers::ForwardsUOffset<&'a str>>>,
        request: u64,
    ) -> Result<Topics<'a>, Rejection> {
        let mut topics = Topics {
            names: Ids(names),
            ..Topics::default()
        };
        let count = topics.names.len();
        if count > TOPICS_MAX {
            let says = format!("{count} topics in one message, the limit is {TOPICS_MAX}");
            let rejection = Rejection::new(ErrorCode::LimitReached, request, says);
            return Err(rejection.over(Bound::Topics));
        }
        for (at, name) in topics.names.iter().enumerate() {
            match name {
                Self::POSITIONS => topics.positions = true,
                Self::PRESENCE => topics.presence = true,
                Self::EVENTS => topics.all_events = true,
                other => {
                    check_topic(other).map_err(|wrong| {
                        let says = format!("topics[{at}] {wrong}");
                        Rejection::new(ErrorCode::Malformed, request, says)
                    })?;
                    topics.named += 1;
                }
            }
        }
        Ok(topics)
    }

    /// Whether there are any.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.names.len() == 0
    }

    /// Whether some of them are of events.
    #[must_use]
    pub fn wants_events(self) -> bool {
        self.all_events || self.named > 0
    }

    /// The topics of events that are named.
    pub fn of_events(self) -> impl Iterator<Item = &'a str> {
        self.names
            .iter()
            .filter(|name| !Self::RESERVED.contains(name))
    }
}

/// How a dashboard wants events to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventWish<'a> {
    /// At least once, and acknowledged.
    pub acknowledged: bool,
    /// Behind this one.
    pub resume: Option<ResumePoint>,
    /// Where this durable consumer was.
    pub consumer: Option<&'a str>,
}

impl<'a> EventWish<'a> {
    /// What a subscription says about that.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn of(
        subscribe: &wire::Subscribe<'a>,
        topics: Topics<'a>,
    ) -> Result<EventWish<'a>, Rejection> {
        let request = subscribe.request();
        let malformed = |says: String| Rejection::new(ErrorCode::Malformed, request, says);
        let consumer = subscribe.consumer().filter(|name| !name.is_empty());
        if let Some(name) = consumer {
            check_text(name, CONSUMER_NAME_BYTES_MAX)
                .map_err(|wrong| malformed(format!("the consumer's name {wrong}")))?;
        }
        let resume = subscribe.resume().map(|point| ResumePoint {
            epoch: point.epoch(),
            sequence: point.sequence(),
        });
        if subscribe.qos() > 1 {
            let says = format!("qos is {}: there are 0 and 1", subscribe.qos());
            return Err(malformed(says));
        }
        let wish = EventWish {
            acknowledged: subscribe.qos() == 1 || resume.is_some() || consumer.is_some(),
            resume,
            consumer,
        };
        if wish.acknowledged && !topics.wants_events() {
            return Err(malformed(
            "qos, resume and consumer are about events, and topics names none: add \"events\", or a topic".to_owned(),
        ));
        }
        Ok(wish)
    }
}
