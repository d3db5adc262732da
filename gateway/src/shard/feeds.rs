//! How a dashboard's events begin, change and end: from its wish to a feed, from where, and what is missing there.

use std::sync::Arc;

use longhaul_codec::{ErrorCode, EventRange, ResumePoint};
use longhaul_filter_engine::{Filter, FleetId, SubscriberId};

use super::{
    Core,
    clock::Now,
    connection::{Connection, holder},
    deliver::tells,
    feed::{Feed, Hold},
    ring::Key,
};
use crate::{
    events::{
        LogState,
        consumers::{Attached, Consumers},
        replay::TopicFilter,
    },
    fleet::{Extra, Interest},
    limits::EVENT_TOPICS_MAX,
    session::{
        close,
        rejection::{Bound, Rejection},
        topics::{EventWish, Topics},
    },
};

impl Core {
    /// Checks what a subscription asks of events, before anything of it is put into force.
    pub(super) fn check_events(
        &mut self,
        key: Key,
        request: u64,
        topics: Topics<'_>,
        wish: EventWish<'_>,
        replace: bool,
    ) -> Result<(), Rejection> {
        if !topics.wants_events() {
            return Ok(());
        }
        let state = self.events.state();
        if wish.acknowledged && !self.events.is_readable() {
            return Err(Rejection::new(
                ErrorCode::NotDurable,
                request,
                state.why_not(),
            ));
        }
        if let Some(name) = wish.consumer
            && let Some(consumer_key) = self.consumer_key(key, name)
            && let Err(error) = self.events.consumers.has_room(&consumer_key)
        {
            let says = error.to_string();
            let rejection = Rejection::new(ErrorCode::LimitReached, request, says);
            return Err(rejection.over(Bound::Consumers));
        }
        let Some(feed) = self.connections.get_mut(key).and_then(Connection::feed_mut) else {
            return Ok(());
        };
        if replace {
            return Ok(());
        }
        if wish.resume.is_some()
            || wish.consumer.is_some()
            || wish.acknowledged != feed.acknowledged
        {
            let says = "you watch events already, in another way: a connection has one stream of them; use mode Replace";
            return Err(Rejection::new(ErrorCode::Malformed, request, says));
        }
        if let TopicFilter::Some(own) = &feed.topics
            && own.len() + topics.of_events().count() > EVENT_TOPICS_MAX
        {
            let says =
                format!("this would be over {EVENT_TOPICS_MAX} topics, the limit; use \"events\"");
            let rejection = Rejection::new(ErrorCode::LimitReached, request, says);
            return Err(rejection.over(Bound::Topics));
        }
        Ok(())
    }

    /// Begins to send events, or those of more topics.
    pub(super) fn begin_feed(
        &mut self,
        key: Key,
        request: u64,
        topics: Topics<'_>,
        wish: EventWish<'_>,
        now: Now,
    ) -> Result<(), Rejection> {
        let me = holder(self.exchange.shard(), key);
        let log = Arc::clone(&self.events);
        let Some(dashboard) = self
            .connections
            .get_mut(key)
            .and_then(Connection::dashboard_mut)
        else {
            return Ok(());
        };
        let fleet = dashboard.fleet;
        let wanted = if topics.all_events {
            TopicFilter::All
        } else {
            TopicFilter::Some(topics.of_events().map(Box::from).collect())
        };
        if let Some(feed) = &mut dashboard.feed {
            feed.topics = joined(
                std::mem::replace(&mut feed.topics, TopicFilter::All),
                wanted,
            );
            feed.refilter(|_| true);
            self.behind.push(key);
            return Ok(());
        }
        // First the log's thread is told, then it is asked where the log ends: whatever comes behind that comes here.
        self.extras
            .change(&self.fleet, fleet, Extra::Events, false, true);
        Interest::fence();
        self.tails.begin(fleet, log.last(fleet), key);
        let tail_through = self.tails.get(fleet).map_or(0, |tail| tail.through());
        let now_at = ResumePoint {
            epoch: log.epoch(),
            sequence: tail_through.max(log.last(fleet)),
        };
        let consumer_key = wish.consumer.and_then(|name| self.consumer_key(key, name));
        let attached = match consumer_key {
            None => None,
            Some(consumer_key) => match log.consumers.attach(consumer_key, me, now.unix_ms) {
                Ok(found) => Some(found),
                Err(error) => {
                    self.unwant_events(fleet, key);
                    let says = error.to_string();
                    let rejection = Rejection::new(ErrorCode::LimitReached, request, says);
                    return Err(rejection.over(Bound::Consumers));
                }
            },
        };
        let (begin, sent) = match &attached {
            Some(Attached {
                consumer,
                is_new: false,
            }) => {
                let cursor = consumer.cursor();
                let at = ResumePoint {
                    epoch: cursor.epoch,
                    sequence: cursor.acked,
                };
                (at, cursor.sent)
            }
            // A log that took the place of a damaged one lost the cursors as well: this may have been one of them.
            Some(_) if wish.resume.is_none() => (log.lost(now.unix_ms).unwrap_or(now_at), 0),
            _ => (wish.resume.unwrap_or(now_at), 0),
        };
        let (at, gap) = starting_point(begin, now_at);
        let sent = if gap.is_none() { sent } else { 0 };
        let mut feed = Feed::new(wanted, wish.acknowledged, at, sent);
        if let Some(gap) = gap {
            self.metrics.event_gaps.inc();
            feed.missing(gap);
        }
        if let Some(Attached { consumer, is_new }) = attached {
            let is_lost = begin.epoch != now_at.epoch && gap.is_some();
            if is_new && is_lost {
                // It is told again until something behind the gap is acknowledged.
                consumer.begin(begin);
            } else if is_new || (gap.is_some() && !is_lost) {
                consumer.begin(ResumePoint {
                    sequence: at,
                    ..now_at
                });
            }
            feed.consumer = Some(Hold {
                consumer,
                me,
                epoch: now_at.epoch,
            });
        }
        if let Some(dashboard) = self
            .connections
            .get_mut(key)
            .and_then(Connection::dashboard_mut)
        {
            dashboard.feed = Some(Box::new(feed));
        }
        self.behind.push(key);
        self.mark_flushable(key);
        Ok(())
    }

    /// What a dashboard's consumer is called in the log.
    fn consumer_key(&mut self, key: Key, name: &str) -> Option<Box<str>> {
        let connection = self.connections.get_mut(key)?;
        let dashboard = connection.dashboard_mut()?;
        let fleet = self.fleet.registry.fleet_name(dashboard.fleet)?;
        Some(Consumers::key(&fleet, &dashboard.user, name))
    }

    /// The filter of a dashboard has changed.
    pub(super) fn refilter(&mut self, key: Key) {
        let nobody = Filter::default();
        let watched = self
            .engine
            .effective(SubscriberId(key.slot))
            .unwrap_or(&nobody);
        let connection = self.connections.get_mut(key);
        if let Some(dashboard) = connection.and_then(Connection::dashboard_mut)
            && let Some(feed) = &mut dashboard.feed
        {
            let access = dashboard.access.as_deref();
            feed.refilter(|logged| watched.contains(logged.vehicle) && tells(access, logged));
            self.behind.push(key);
        }
    }

    /// Sends no more events.
    pub(super) fn end_feed(&mut self, key: Key, now: Now) {
        let Some(dashboard) = self
            .connections
            .get_mut(key)
            .and_then(Connection::dashboard_mut)
        else {
            return;
        };
        let fleet = dashboard.fleet;
        let Some(mut feed) = dashboard.feed.take() else {
            return;
        };
        if let Some(tail) = self.tails.get(fleet) {
            feed.settle(tail.through(), now.mono_ms, now.unix_ms);
        }
        if let Some(hold) = &feed.consumer {
            hold.consumer.release(hold.me, now.unix_ms);
        }
        self.unwant_events(fleet, key);
    }

    /// The topics of events that it does not want any more.
    pub(super) fn drop_topics(&mut self, key: Key, topics: Topics<'_>, now: Now) {
        let Some(feed) = self.connections.get_mut(key).and_then(Connection::feed_mut) else {
            return;
        };
        let none_left = match &mut feed.topics {
            _ if topics.all_events => true,
            // All but one is no wish that it could have.
            TopicFilter::All => false,
            TopicFilter::Some(own) => {
                own.retain(|own| !topics.of_events().any(|gone| gone == &**own));
                own.is_empty()
            }
        };
        if none_left {
            self.end_feed(key, now);
        } else {
            self.refilter(key);
        }
    }

    /// A newer connection has taken the consumer over: no more events come here.
    pub(super) fn lose_consumer(&mut self, key: Key, now: Now) {
        self.end_feed(key, now);
        self.reject(
            key,
            Rejection::new(
                ErrorCode::NotAllowed,
                0,
                "another connection has taken your consumer over: no more events come here",
            ),
        );
    }

    /// The log is another one: everybody with events has to say anew where to begin.
    pub(super) fn new_epoch(&mut self) {
        for key in self.tails.all_readers() {
            self.close(key, close::RESTARTING);
        }
    }

    /// Whether this log is one to be told of in `Welcome`.
    pub(super) fn epoch_to_tell(&self) -> u64 {
        match self.events.state() {
            LogState::Open | LogState::Failed => self.events.epoch(),
            LogState::Off | LogState::Opening | LogState::Closed => 0,
        }
    }

    /// The log takes events now: whoever has come before is announced to it. Where it was opened, what it has is not new.
    pub(super) fn log_opened(&mut self, first: bool) {
        if first {
            self.tails.catch_up(|fleet| self.events.last(fleet));
        }
        self.announce_all();
    }

    fn unwant_events(&mut self, fleet: FleetId, key: Key) {
        if let Some(tail) = self.tails.get_mut(fleet) {
            tail.leave(key);
        }
        self.extras
            .change(&self.fleet, fleet, Extra::Events, true, false);
        if !self.extras.is_wanted(fleet, Extra::Events) {
            self.tails.end(fleet);
        }
    }
}

/// Where to begin, and what is missing, for somebody who was at `asked` in a log that ends at `now`.
fn starting_point(asked: ResumePoint, now: ResumePoint) -> (u64, Option<EventRange>) {
    if asked.epoch == now.epoch && asked.sequence > now.sequence {
        // Somebody has put an older copy of the log back.
        let lost = EventRange {
            epoch: asked.epoch,
            first: now.sequence + 1,
            last: asked.sequence,
        };
        return (now.sequence, Some(lost));
    }
    if asked.epoch == now.epoch {
        // Retention is looked at when the log is read.
        return (asked.sequence, None);
    }
    if asked.epoch == 0 && asked.sequence == 0 {
        // It has never seen any: all that is kept.
        return (0, None);
    }
    let lost = EventRange {
        epoch: asked.epoch,
        first: asked.sequence.saturating_add(1),
        last: u64::MAX,
    };
    (0, Some(lost))
}

/// Topics of both.
fn joined(own: TopicFilter, more: TopicFilter) -> TopicFilter {
    match (own, more) {
        (TopicFilter::Some(mut own), TopicFilter::Some(more)) => {
            for topic in more {
                if !own.contains(&topic) {
                    own.push(topic);
                }
            }
            TopicFilter::Some(own)
        }
        _ => TopicFilter::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resume_begins_where_it_can_and_says_what_is_missing() {
        let point = |epoch, sequence| ResumePoint { epoch, sequence };
        let now = point(7, 100);
        assert_eq!(starting_point(point(7, 40), now), (40, None));
        let ahead = EventRange {
            epoch: 7,
            first: 101,
            last: 400,
        };
        assert_eq!(starting_point(point(7, 400), now), (100, Some(ahead)));
        assert_eq!(starting_point(point(7, 0), now), (0, None));
        assert_eq!(starting_point(point(0, 0), now), (0, None), "all there is");
        let lost = EventRange {
            epoch: 6,
            first: 41,
            last: u64::MAX,
        };
        assert_eq!(starting_point(point(6, 40), now), (0, Some(lost)));
    }

    #[test]
    fn topics_are_added() {
        let some =
            |topics: &[&str]| TopicFilter::Some(topics.iter().map(|t| (*t).into()).collect());
        assert_eq!(joined(some(&["a"]), some(&["a", "b"])), some(&["a", "b"]));
        assert_eq!(joined(some(&["a"]), TopicFilter::All), TopicFilter::All);
    }
}
