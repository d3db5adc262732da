//! What is received, handed on and answered.

use longhaul_codec::{Fix, LastKnown, PresenceChange, PresenceState};
use longhaul_filter_engine::footprint as filters;

use super::{NOTHING, Sheet, growing, grown, size};
use crate::{
    audit,
    config::KEYS_HARD_MAX,
    events::commands,
    limits::{
        AUDIT_TEXT_BYTES_MAX, BULK_HELD_BYTES_MAX, CONTROL_BODY_BYTES_MAX, CONTROL_CONNECTIONS_MAX,
        CONTROL_HEADER_BYTES_MAX, DRAIN_TEXT_BYTES_MAX, ERROR_TEXT_BYTES_MAX, EVERY_BACKLOG_MAX,
        KEY_SET_BYTES_MAX, KEY_SETS_MAX, KEYS_PER_SET_MAX, MESSAGE_OVERHEAD_BYTES,
        MESSAGES_PER_INTERVAL_MAX, NAMES_PER_MESSAGE_MAX, PRESENCE_PER_MESSAGE_MAX,
        RETRY_AFTER_MAX_S, REVOCATION_REASON_BYTES_MAX, VEHICLE_ANSWER_BYTES_MAX,
        VEHICLE_ANSWERS_MAX, budget::Part,
    },
    server::EXECUTOR_IO_MEMORY,
    session::revocation::Revocation,
    shard::footprint as shard,
    state::ANNOUNCED_AT_ONCE,
    websocket::{Refusal, UNFINISHED_BYTES},
};

/// The most that JSON makes of a byte of text: \u0000.
const JSON_PER_BYTE: u64 = 6;
/// An id has no control characters, so that a byte of it is escaped as two.
const JSON_PER_ID_BYTE: u64 = 2;

/// Copies of the keys that there are at a time: of files, of sets, in force, and on the way to be.
const KEY_COPIES: u64 = 4;
/// A key with its name: an RSA modulus of 8192 bits is the longest.
const KEY_BYTES: u64 = 2_048;
/// Bytes that a set takes while it is read, for each byte of its text: the text twice, and its values.
const JSON_OF_SET: u64 = 32;

/// Lists of revocations that there are at a time: read, changed, written, in force, and the one before.
const REVOCATION_COPIES: u64 = 5;

impl Sheet<'_> {
    pub(super) fn shards(&mut self) {
        let part = Part::UnderWay;
        let config = self.config;
        let (shards, limits) = (self.load.shards, &config.limits);
        let mut fixed = |name, count: u64, bytes, why| {
            let weight = (count.saturating_mul(shards), bytes);
            self.add(part, name, weight, weight, why);
        };
        fixed(
            "receive buffers",
            u64::from(config.receive.buffers),
            u64::from(config.receive.buffer_bytes) + size(shard::RECEIVE_BUFFER_ENTRY),
            "receive.buffers of receive.buffer_bytes per shard, shared by all of its connections",
        );
        fixed(
            "executors",
            1,
            size(EXECUTOR_IO_MEMORY),
            "locked memory of each shard's executor, beside its own ring",
        );
        fixed(
            "encoders",
            2,
            size(shard::ENCODER),
            "what is encoded, and what JSON clients say, in buffers that are kept",
        );
        fixed(
            "inboxes",
            limits.inbox_batches_max as u64,
            size(shard::LETTER),
            "limits.inbox_batches_max places per shard",
        );
        self.add(
            part,
            "long messages",
            NOTHING,
            (shards, size(BULK_HELD_BYTES_MAX)),
            "BULK_HELD_BYTES_MAX per shard: what peers have sent that waits for its turn",
        );
        let taken = (self.completions(), size(shard::COMPLETION));
        let overflowing = self.completions() + size(shard::COMPLETIONS);
        self.add(
            part,
            "completions",
            (grown(taken.0).saturating_mul(shards), taken.1),
            (growing(overflowing).saturating_mul(shards), taken.1),
            "copied out of the ring, as many as a tick takes and what comes with the last of them",
        );
        self.add(
            part,
            "routing",
            NOTHING,
            (shards, filters::SCRATCH_BYTES_MAX),
            "scratch space for the matches of a batch",
        );
        self.add(
            part,
            "control plane",
            NOTHING,
            (
                size(CONTROL_CONNECTIONS_MAX),
                size(CONTROL_HEADER_BYTES_MAX + CONTROL_BODY_BYTES_MAX),
            ),
            "requests that are served at once",
        );
        let entry = size(size_of::<Revocation>() + REVOCATION_REASON_BYTES_MAX)
            + limits.fleet_id_bytes_max as u64
            + limits.vehicle_id_bytes_max as u64;
        let keys = KEYS_HARD_MAX + KEY_SETS_MAX * KEYS_PER_SET_MAX;
        self.add(
            part,
            "keys",
            NOTHING,
            (KEY_COPIES * keys as u64, KEY_BYTES),
            "auth.keys and auth.key_sets: those in force, read, fetched, and the ones of before",
        );
        let fetched = KEY_SET_BYTES_MAX.saturating_mul(JSON_OF_SET);
        self.add(
            part,
            "a set of keys",
            NOTHING,
            (1, fetched),
            "one is read, fetched or kept at a time: its text, and what becomes of it",
        );
        self.add(
            part,
            "revocations",
            NOTHING,
            (
                (limits.revocations_max as u64).saturating_mul(REVOCATION_COPIES + shards),
                entry,
            ),
            "limits.revocations_max: as they were read, in force, while they are exchanged, and on their way in each shard",
        );
        if config.audit.file.is_some() {
            let texts = size(2 * AUDIT_TEXT_BYTES_MAX)
                + limits.fleet_id_bytes_max as u64
                + 2 * limits.vehicle_id_bytes_max as u64;
            let queue = limits.audit_queue_max as u64;
            self.add(
                part,
                "audit log",
                (queue, size(audit::ACT_BYTES)),
                (queue, size(audit::ACT_BYTES) + texts),
                "limits.audit_queue_max acts that wait to be written; usually they are empty places",
            );
        }
        let letters = shards.saturating_mul(limits.inbox_batches_max as u64);
        self.add(
            part,
            "letters to shards",
            NOTHING,
            (growing(letters), self.letter_bytes()),
            "a shard that stands still: its inbox is full, each letter as long as can be, then all taken at once",
        );
        self.add(
            part,
            "waiting for a full inbox",
            NOTHING,
            (
                shards.saturating_mul(shards - 1),
                growing(size(EVERY_BACKLOG_MAX * shard::EVERY_EXCHANGED))
                    .saturating_add(2 * filters::bitmap(self.vehicles_max, self.vehicles_max)),
            ),
            "from each shard to each other: sets of vehicles, and positions for dashboards with delivery Every",
        );
    }

    pub(super) fn under_way(&mut self) {
        let part = Part::UnderWay;
        let limits = &self.config.limits;
        let (connections, dashboards) = (self.load.connections, self.load.dashboards);
        let request = (limits.header_bytes_max + shard::BEHIND_REQUEST) as u64
            + u64::from(self.config.receive.buffer_bytes);
        let handshakes = (
            limits
                .handshakes_per_shard_max
                .saturating_mul(self.load.shards)
                .min(connections),
            2 * request + size(shard::PARTIAL_REQUEST),
        );
        let message = limits.message_bytes_max as u64 + size(UNFINISHED_BYTES);
        let queued = size(shard::FRAME + shard::QUEUED);
        let queue_max = limits.control_queue_max as u64;
        let queue_bytes = limits.control_queue_bytes_max as u64;
        let texts = ERROR_TEXT_BYTES_MAX.max(2 * DRAIN_TEXT_BYTES_MAX);
        let answer = size(texts) * JSON_PER_BYTE + MESSAGE_OVERHEAD_BYTES;
        let overhead = queue_max.saturating_mul(queued);
        // The one that is too many is queued before the connection is closed for it.
        let to_vehicle = size(VEHICLE_ANSWER_BYTES_MAX)
            .saturating_add(answer)
            .saturating_add(size(VEHICLE_ANSWERS_MAX + 1).saturating_mul(queued));
        let to_dashboard = queue_bytes
            .saturating_add(overhead)
            .saturating_add(self.names_bytes());
        let refusal = Refusal::unavailable(
            "This node holds as many connections as it may (limits.connections_per_shard_max).",
            RETRY_AFTER_MAX_S,
        )
        .response()
        .len();
        let refused = size(shard::CONNECTION + shard::IN_FLIGHT + shard::FRAME + refusal);
        let vehicles = self.load.vehicles();
        let refusals = self.refusals();
        for (name, count, each, why) in [
            (
                "handshakes",
                handshakes.0,
                handshakes.1,
                "limits.handshakes_per_shard_max: requests in pieces, and what comes behind one that waits its turn",
            ),
            (
                "refusals",
                refusals,
                refused,
                "REFUSALS_IN_FLIGHT_MAX per shard: those who are told that they cannot come in",
            ),
            (
                "unfinished messages",
                connections,
                message,
                "limits.message_bytes_max per connection, if everybody begins one and does not end it",
            ),
            (
                "answers to vehicles",
                vehicles,
                to_vehicle,
                "VEHICLE_ANSWER_BYTES_MAX of errors and pongs that are not read, and the one that is too many",
            ),
            (
                "answers to dashboards",
                dashboards,
                to_dashboard,
                "limits.control_queue_bytes_max of acks, names and errors, and the one that is too many",
            ),
            (
                "frames to dashboards",
                dashboards,
                self.frame_bytes(),
                "one under way each, if all of a fleet has changed at once; usually few bytes, shared by equal filters",
            ),
        ] {
            self.add(part, name, NOTHING, (count, each), why);
        }
    }

    /// Of the whole node, however many connections it has.
    pub(super) fn commands(&mut self) {
        let limits = &self.config.limits;
        let (count, bytes) = (limits.commands_max, limits.commands_bytes_max);
        self.add(
            Part::UnderWay,
            "commands",
            NOTHING,
            (size(count), size(commands::WEIGHT_BYTES)),
            "limits.commands_max of them, and results, each of a vehicle and a user of its own",
        );
        self.add(
            Part::UnderWay,
            "what commands say",
            NOTHING,
            (1, bytes),
            "limits.commands_bytes_max of payloads and texts",
        );
    }

    /// The longest letter to a shard, while its inbox has room: of a tick's positions for dashboards with delivery Every,
    /// of which one shard has nobody to tell, or of vehicles that have changed.
    fn letter_bytes(&self) -> u64 {
        let every = if self.load.shards > 1 {
            size(EVERY_BACKLOG_MAX * shard::EVERY_EXCHANGED)
        } else {
            0
        };
        let changes = self.completions().max(size(ANNOUNCED_AT_ONCE));
        every.max(changes.saturating_mul(size(shard::CHANGED)))
    }

    /// The longest frame that a dashboard can be sent: a fleet of as many as can be has changed at once, in JSON.
    fn frame_bytes(&self) -> u64 {
        let per_frame = self.config.limits.positions_per_frame_max as u64;
        let fix = Fix {
            time_ms: u64::MAX,
            vehicle: u32::MAX,
            lat_e7: i32::MIN,
            lon_e7: i32::MIN,
            speed_cm_s: u16::MAX,
            heading_cdeg: u16::MAX,
        };
        let known = LastKnown {
            age_ms: u32::MAX,
            state: PresenceState::Offline,
        };
        let change = PresenceChange {
            since_ms: u64::MAX,
            vehicle: u32::MAX,
            state: PresenceState::Offline,
        };
        // All that has changed, and what gathered for delivery Every in an interval.
        let gathered = per_frame.saturating_mul(MESSAGES_PER_INTERVAL_MAX as u64);
        let fixes = self.vehicles_max.max(per_frame).saturating_add(gathered);
        [
            (fixes, in_list(&fix) + in_list(&known)),
            (fixes / per_frame + 3, MESSAGE_OVERHEAD_BYTES),
            (size(PRESENCE_PER_MESSAGE_MAX), in_list(&change)),
        ]
        .into_iter()
        .map(|(count, each)| count.saturating_mul(each))
        .fold(self.names_bytes(), u64::saturating_add)
    }

    /// The longest `Names`, in JSON.
    fn names_bytes(&self) -> u64 {
        let id = self.config.limits.vehicle_id_bytes_max as u64 * JSON_PER_ID_BYTE;
        u64::from(NAMES_PER_MESSAGE_MAX) * (id + in_list(&"") + in_list(&u32::MAX))
            + MESSAGE_OVERHEAD_BYTES
    }
}

/// How long something is in a list, in JSON: with its comma.
fn in_list(of: &impl serde::Serialize) -> u64 {
    serde_json::to_string(of).map_or(0, |text| text.len() as u64 + 1)
}
