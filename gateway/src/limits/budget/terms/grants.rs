//! What tokens grant, and who is in which group. Usually nothing: a token without grants costs nothing, and so does a
//! vehicle without groups.

use longhaul_filter_engine::footprint as filters;

use super::{NOTHING, Sheet, growing, rehashing, size};
use crate::{
    fleet::groups,
    limits::{
        CONTROL_CONNECTIONS_MAX, GRANT_BYTES_MAX, GRANT_NAMES_MAX, GRANTS_MAX,
        GROUP_BODY_BYTES_MAX, GROUP_NAME_BYTES_MAX, SUBSCRIPTION_GROUPS_MAX, budget::Part,
    },
    shard::footprint as shard,
};

/// A vehicle in a set that has no other one within 65,536 numbers.
const MEMBER_BYTES: u64 = filters::bitmap(1, 1);
/// Sets of a dashboard with grants: what is granted and wanted, masks of positions and presence, names that it lacks.
const SETS: u64 = 5;

impl Sheet<'_> {
    pub(super) fn groups(&mut self) {
        let part = Part::Vehicles;
        let limits = &self.config.limits;
        let groups_max = u64::from(limits.groups_max);
        let memberships = limits.group_memberships_max;
        let name = 2 * size(GROUP_NAME_BYTES_MAX);
        self.add(
            part,
            "groups",
            NOTHING,
            (growing(groups_max), size(groups::GROUP_BYTES) + name),
            "limits.groups_max: a name, two sets of members, and which shards watch it",
        );
        self.add(
            part,
            "members of groups",
            NOTHING,
            (memberships, MEMBER_BYTES),
            "limits.group_memberships_max: 2 bytes each where they lie close together",
        );
        let each = size(groups::REMEMBERED_BYTES) + 1;
        self.add(
            part,
            "groups by token",
            NOTHING,
            (rehashing(self.vehicles_max.min(memberships)), each),
            "what the newest token of a vehicle said, if one ever named a group",
        );
        self.add(
            part,
            "their numbers",
            NOTHING,
            (memberships, size(size_of::<groups::GroupNumber>())),
            "the groups that it said",
        );
        self.add(
            part,
            "changes of groups",
            NOTHING,
            (
                size(CONTROL_CONNECTIONS_MAX),
                2 * size(GROUP_BODY_BYTES_MAX),
            ),
            "bodies of admin calls, as text and as ids",
        );
    }

    pub(super) fn grants(&mut self) {
        let part = Part::Dashboards;
        let dashboards = self.load.dashboards;
        let max = self.vehicles_max;
        let names = size(GRANT_NAMES_MAX);
        let entries = size(GRANTS_MAX).saturating_mul(size(shard::GRANT_ENTRY));
        let named = names.saturating_mul(MEMBER_BYTES + size(size_of::<Box<str>>()));
        self.add(
            part,
            "grants",
            NOTHING,
            (
                dashboards,
                (size(shard::ACCESS) + size(GRANT_BYTES_MAX))
                    .saturating_add(entries)
                    .saturating_add(named),
            ),
            "tokens with the claim `grants`, and wishes for groups: entries, and the numbers of what they name",
        );
        self.add(
            part,
            "sets of grants",
            NOTHING,
            (
                dashboards.saturating_mul(SETS + size(GRANTS_MAX)),
                filters::bitmap(max, max),
            ),
            "what comes of them at this moment, by topic where topics differ",
        );
        let watched = names + size(SUBSCRIPTION_GROUPS_MAX);
        self.add(
            part,
            "watchers of groups",
            NOTHING,
            (
                rehashing(dashboards.saturating_mul(watched)),
                size(shard::LISTED) + 1,
            ),
            "dashboards by the groups that they name, so that a change finds them",
        );
        self.add(
            part,
            "ends of grants",
            NOTHING,
            (growing(dashboards.saturating_mul(2)), size(shard::HELD)),
            "entries with `until`, by when they end",
        );
        let each = size(GRANTS_MAX).saturating_mul(size(shard::GRANT));
        self.add(
            part,
            "bounds of publishing",
            NOTHING,
            (
                self.vehicles,
                each.saturating_add(size(GRANT_BYTES_MAX))
                    .saturating_add(names.saturating_mul(size(size_of::<Box<str>>()))),
            ),
            "vehicles whose token has the claim `grants`",
        );
    }
}
