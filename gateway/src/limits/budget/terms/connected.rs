//! What is there for connections, vehicles and dashboards.

use longhaul_filter_engine::{VehicleIndex, Wanted, footprint as filters};

use super::{NOTHING, Sheet, buckets, growing, grown, rehashing, size};
use crate::{
    fleet::{chunked, interest, positions, presence, registry},
    limits::budget::{ID_BYTES, Load, Part, WATCHED},
    session::{census::COUNTED_BYTES, penalty::PENALTY_BYTES},
    shard::footprint as shard,
};

/// Sets of vehicles that changed in a tick: positions and presence, of this shard's vehicles and for its dashboards.
const DIRTY_SETS: u64 = 4;

impl Sheet<'_> {
    pub(super) fn connections(&mut self) {
        let Load {
            connections,
            dashboards,
            ..
        } = self.load;
        let part = Part::Connections;
        let chunk = size(shard::CONNECTIONS_PER_CHUNK);
        let slots = self.in_shards(connections, |share| {
            share.div_ceil(chunk).saturating_mul(chunk)
        });
        let slab = (slots, size(shard::CONNECTION));
        self.add(
            part,
            "connections",
            slab,
            slab,
            "a slot in its shard's slab each: counters, buckets, who it is; no buffer",
        );
        let pass = (slots, size(shard::PASS));
        self.add(
            part,
            "tokens of connections",
            pass,
            pass,
            "by slot: a token's id, hashed, and when it was issued, for revocations",
        );
        let by_slot = (
            self.in_shards(connections, grown),
            self.in_shards(connections, growing),
        );
        let each = size(shard::IN_FLIGHT);
        self.add(
            part,
            "frames being sent",
            (by_slot.0, each),
            (by_slot.1, each),
            "by slot: the kernel reads a frame until its send completes; the frames themselves are below",
        );
        let each = size(shard::DEADLINE);
        self.add(
            part,
            "ends of tokens",
            (by_slot.0, each),
            (by_slot.1, each),
            "by slot: when its peer is to be warned, or its token ends",
        );
        if self.config.limits.connections_per_address_max > 0 {
            let each = size(shard::ADDRESS);
            self.add(
                part,
                "addresses by slot",
                (by_slot.0, each),
                (by_slot.1, each),
                "limits.connections_per_address_max: who leaves is counted out again",
            );
            let each = size(COUNTED_BYTES) + 1;
            self.add(
                part,
                "addresses counted",
                (buckets(connections), each),
                (rehashing(connections), each),
                "a keyed hash and a count for each address, of which each may have one connection",
            );
        }
        if self.config.server.proxy_protocol.is_some() {
            let each = size(shard::CLIENT);
            self.add(
                part,
                "proxied clients by slot",
                (by_slot.0, each),
                (by_slot.1, each),
                "server.proxy_protocol: the address that each connection is for",
            );
        }
        if self.config.abuse.points_max > 0 {
            let fixed = (1, size(PENALTY_BYTES));
            self.add(
                part,
                "penalty box",
                fixed,
                fixed,
                "PENALTY_ADDRESSES_MAX that offended, and as many that sent good connections, however many there are",
            );
        }
        let each = size(COUNTED_BYTES) + 1;
        self.add(
            part,
            "users counted",
            (buckets(dashboards), each),
            (rehashing(dashboards), each),
            "limits.connections_per_identity_max: a keyed hash and a count for each dashboard's user",
        );
        self.add(
            part,
            "free slots",
            NOTHING,
            (by_slot.1, size(shard::FREE_SLOT)),
            "after everybody has gone: slots stay for those who come next",
        );
        self.add(
            part,
            "lists of a tick",
            NOTHING,
            (by_slot.1, 2 * size(shard::LISTED)),
            "connections with something to send, or with an upgrade to be decided on",
        );
        self.add(
            part,
            "stalls",
            NOTHING,
            (
                self.in_shards(connections, rehashing),
                size(shard::STALL) + 1,
            ),
            "connections whose send has been under way for a while (connection.send_timeout_ms)",
        );
    }

    pub(super) fn vehicles(&mut self) {
        let part = Part::Vehicles;
        let limits = &self.config.limits;
        let (known, max, shards) = (self.vehicles, self.vehicles_max, self.load.shards);
        let id_max = limits.vehicle_id_bytes_max as u64;
        let fleets = u64::from(limits.fleets_max);
        let fleet_name = 2 * limits.fleet_id_bytes_max as u64;
        let handover = self.config.state.directory.is_some();
        let chunk = size(chunked::CHUNK);
        let chunks = |vehicles: u64| (vehicles + 1).div_ceil(chunk) * chunk;
        let mut by_index = |name, bytes, why| {
            self.add(
                part,
                name,
                (chunks(known), bytes),
                (chunks(max), bytes),
                why,
            );
        };
        by_index(
            "last positions",
            size(positions::SLOT_BYTES),
            "one slot per vehicle that is known, connected or not (limits.vehicles_max); it stays",
        );
        by_index(
            "presence",
            size(presence::SLOT_BYTES),
            "state, since when, and which connection is the vehicle's own",
        );
        by_index(
            "interest",
            size(interest::MASK_BYTES),
            "a bit per shard that watches it",
        );
        let each = size(registry::ENTRY_BYTES);
        self.add(
            part,
            "registry",
            (grown(known), each),
            (growing(max), each),
            "an entry and a place in its fleet; ids that dashboards asked for among them",
        );
        // Where an id ends is a number of 32 bits.
        let ids_max = max.saturating_mul(id_max).min(u64::from(u32::MAX));
        self.add(
            part,
            "ids",
            (grown(known.saturating_mul(ID_BYTES.min(id_max))), 1),
            (growing(ids_max), 1),
            "end to end in one arena; at most limits.vehicle_id_bytes_max each, and 4 GiB in all",
        );
        let each = size(registry::LOOKED_UP_BYTES) + 1;
        self.add(
            part,
            "look-up by id",
            (buckets(known), each),
            (rehashing(max), each),
            "a hash table of indexes",
        );
        let unseen_max = u64::from(self.config.limits.unseen_vehicles_max).min(max);
        self.add(
            part,
            "ids never seen",
            NOTHING,
            (rehashing(unseen_max), size(registry::UNSEEN_BYTES)),
            "limits.unseen_vehicles_max: who asked for each, and how many each user has",
        );
        let fixed = size(interest::MASKS_PER_FLEET * interest::MASK_BYTES);
        self.add(
            part,
            "fleets",
            (fleets, fixed),
            (fleets, fixed + size(registry::FLEET_BYTES) + fleet_name),
            "masks of interest for limits.fleets_max; names as fleets come",
        );
        let each = size(shard::SEEN);
        self.add(
            part,
            "versions routed",
            (grown(known).saturating_mul(shards), each),
            (growing(max).saturating_mul(shards), each),
            "each shard knows which write of each vehicle it has routed, so that nothing comes twice",
        );
        let words = |vehicles: u64| (vehicles / 64 + 1).saturating_mul(DIRTY_SETS * shards);
        self.add(
            part,
            "marks of change",
            (words(known), size(size_of::<u64>())),
            (growing(words(max)), size(size_of::<u64>())),
            "a bit per vehicle and shard, in each of four dirty sets",
        );
        let each = size(size_of::<VehicleIndex>());
        let a_tick = self.completions().min(known);
        self.add(
            part,
            "changed in a tick",
            (a_tick.saturating_mul(DIRTY_SETS * shards), each),
            (growing(max).saturating_mul(DIRTY_SETS * shards), each),
            "usually a tick's completions; at most every vehicle at once, when much was handed over",
        );
        if handover {
            self.add(
                part,
                "versions handed over",
                NOTHING,
                (growing(max), size(shard::SEEN)),
                "state.directory: while draining, which write of each vehicle the successor has",
            );
        }
    }

    pub(super) fn dashboards(&mut self) {
        let part = Part::Dashboards;
        let Load {
            connections,
            dashboards,
            shards,
        } = self.load;
        let (known, max, listed) = (self.vehicles, self.vehicles_max, self.listed_max);
        let watched = WATCHED.min(listed).min(known);
        let box_bytes = size(shard::DASHBOARD);
        self.add(
            part,
            "dashboards",
            (dashboards, box_bytes),
            (dashboards, box_bytes + size(shard::PRESENCE_SET + shard::INTERVAL)),
            "what it wants and where it is; sets of what it is owed own no memory while they are empty",
        );
        self.add(
            part,
            "names of users",
            (dashboards, ID_BYTES),
            (dashboards, self.config.limits.vehicle_id_bytes_max as u64),
            "limits.vehicle_id_bytes_max at most; consumers and commands are a user's own",
        );
        let leaves = connections.div_ceil(filters::SEATS_PER_LEAF);
        let leaf = filters::SEAT_LEAF_BYTES;
        self.add(
            part,
            "seats",
            (leaves.min(dashboards), leaf),
            (leaves.min(dashboards), leaf),
            "by slot, 64 at a time; slots are shared with vehicles, so few dashboards touch many",
        );
        // A wish that its filter does not tell is kept as well: the whole fleet, and some by id.
        let wish = filters::bitmap(listed, max);
        self.add(
            part,
            "filters",
            (dashboards, filters::group(watched, known)),
            (
                dashboards,
                filters::group(listed, max)
                    .saturating_add(wish)
                    .saturating_add(2 * size(size_of::<Wanted>())),
            ),
            "a group of its own with its index entries; at most limits.subscription_vehicles_max by id",
        );
        let page = filters::VEHICLES_PER_PAGE;
        let share = dashboards.div_ceil(shards);
        let banks = share.div_ceil(filters::GROUPS_PER_BANK);
        let pages = |vehicles: u64, watched: u64| {
            let touched = share.saturating_mul(watched);
            (vehicles / page + 1)
                .min(touched)
                .saturating_mul(shards)
                .saturating_mul(banks)
        };
        self.add(
            part,
            "index pages",
            (pages(known, watched), filters::PAGE_BYTES),
            (pages(max, listed), filters::PAGE_BYTES),
            "for each 8 vehicles of which a dashboard of the shard watches one by id",
        );
        self.add(
            part,
            "pending sets",
            NOTHING,
            (
                dashboards.saturating_mul(2),
                filters::bitmap(max, max),
            ),
            "who reads slowly is owed a set of vehicles, for positions and for presence; all of a fleet at most",
        );
        let bytes_max = self.config.limits.every_queue_bytes_max as u64;
        let each = size(shard::EVERY_FIX);
        let queue = 2 * (bytes_max + each);
        self.add(
            part,
            "queues of every position",
            NOTHING,
            (dashboards, queue.saturating_add(size(shard::EVERY))),
            "delivery Every: limits.every_queue_bytes_max of positions, in a queue that doubles",
        );
        self.add(
            part,
            "last times for Every",
            NOTHING,
            (
                dashboards.saturating_mul(rehashing(max)),
                size(shard::EVERY_LAST) + 1,
            ),
            "delivery Every: the time of the last position of each vehicle that it watches; no limit of its own",
        );
        self.add(
            part,
            "intervals",
            NOTHING,
            (
                self.in_shards(connections, |share| {
                    growing(share.saturating_mul(2).saturating_add(64))
                }),
                size(shard::HELD),
            ),
            "min_interval_ms: dashboards whose interval has not elapsed, and those that have gone",
        );
    }
}
