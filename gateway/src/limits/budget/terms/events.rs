//! What events that must arrive take: on their way to the log, in the log's memory, and on their way to dashboards.

use super::{NOTHING, Sheet, buckets, size};
use crate::{
    events::{EventLog, consumers::Consumer, handle::Request, store::StoreOptions, window},
    limits::{
        COMMAND_NEWS_BYTES_MAX, COMMIT_BYTES_MAX, CONSUMER_NAME_BYTES_MAX, EVENT_TOPICS_MAX,
        EVENTS_BACKLOG_MAX, HOLDS_MAX, LOG_REQUESTS_MAX, REPLAY_SCAN_BYTES_MAX, SENDERS_CACHED_MAX,
        TAIL_BYTES_MAX, TOPIC_BYTES_MAX, budget::Part,
    },
    shard::footprint as shard,
};

/// Batches of which there is one each time: being gathered, being written, and what the library makes of it.
const COMMIT_COPIES: u64 = 3;

impl Sheet<'_> {
    pub(super) fn events(&mut self) {
        let part = Part::UnderWay;
        let (config, limits) = (self.config, &self.config.limits);
        let (shards, dashboards) = (self.load.shards, self.load.dashboards);
        let in_flight = u64::from(limits.events_in_flight_max) * size(size_of::<u64>());
        let topics = size(EVENT_TOPICS_MAX * (TOPIC_BYTES_MAX + size_of::<Box<str>>()));
        self.add(
            Part::Dashboards,
            "events for dashboards",
            NOTHING,
            (
                dashboards,
                size(shard::FEED) + limits.event_queue_bytes_max as u64 + 2 * in_flight + topics,
            ),
            "limits.event_queue_bytes_max and limits.events_in_flight_max of each, if it takes none of them",
        );
        self.add(
            part,
            "events for other shards",
            NOTHING,
            (
                shards.saturating_mul(shards - 1),
                size(EVENTS_BACKLOG_MAX * shard::EVENT_EXCHANGED).saturating_add(
                    size(EVENTS_BACKLOG_MAX) * limits.event_payload_bytes_max as u64,
                ),
            ),
            "with qos 0, in front of an inbox that is full",
        );
        if config.events.directory.is_none() {
            return;
        }
        let fleets = u64::from(limits.fleets_max).min(dashboards);
        self.add(
            part,
            "newest events",
            NOTHING,
            (shards.saturating_mul(fleets), size(TAIL_BYTES_MAX)),
            "of each fleet of which a shard has a dashboard that wants events",
        );
        let (events, bytes) = (limits.events_pending_max, limits.events_pending_bytes_max);
        self.add(
            part,
            "events for the log",
            NOTHING,
            (1, bytes as u64),
            "limits.events_pending_bytes_max, over all shards",
        );
        self.add(
            part,
            "batches for the log",
            (1, size(size_of::<EventLog>())),
            (
                COMMIT_COPIES,
                size(COMMIT_BYTES_MAX) + events as u64 + bytes as u64 / 4,
            ),
            "gathered while the one before is on its way to the disk",
        );
        self.add(
            part,
            "requests to the log",
            (size(LOG_REQUESTS_MAX), size(size_of::<Request>())),
            (
                size(LOG_REQUESTS_MAX),
                size(size_of::<Request>() + limits.command_payload_bytes_max),
            ),
            "places in its queue, of a command's payload each",
        );
        self.add(
            part,
            "commands for the log",
            NOTHING,
            (shards, size(COMMAND_NEWS_BYTES_MAX)),
            "from dashboards, and results of vehicles, in front of that queue",
        );
        let store = size(StoreOptions::default().cache_bytes);
        self.add(
            part,
            "the log's cache",
            (1, store),
            (1, store),
            "what the library keeps of the file in memory",
        );
        self.add(
            part,
            "old events that are read",
            NOTHING,
            (2, size(REPLAY_SCAN_BYTES_MAX)),
            "one step of one dashboard at a time",
        );
        let ids = size(window::REACH * size_of::<u64>() + size_of::<(u32, window::Window)>());
        self.add(
            part,
            "message ids",
            NOTHING,
            (buckets(size(SENDERS_CACHED_MAX)), ids),
            "the newest of each vehicle that publishes; those of the others are on disk",
        );
        self.add(
            part,
            "refusals to go back to",
            NOTHING,
            (buckets(size(HOLDS_MAX)).saturating_mul(2), 40),
            "connections of which an event was refused, at a shard and at the log",
        );
        let name =
            CONSUMER_NAME_BYTES_MAX + limits.vehicle_id_bytes_max + limits.fleet_id_bytes_max;
        self.add(
            part,
            "consumers",
            NOTHING,
            (
                buckets(limits.consumers_max as u64),
                size(size_of::<Consumer>() + 2 * name + 32),
            ),
            "limits.consumers_max of them, whoever is connected",
        );
    }
}
