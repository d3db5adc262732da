//! Why a group or a membership was not taken.

/// Which limit is reached, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GroupsError {
    /// `limits.groups_max`.
    #[error("this node knows {0} groups, its limit (limits.groups_max); no further group is taken")]
    Groups(u32),
    /// `limits.groups_per_fleet_max`.
    #[error(
        "this fleet has {0} groups, its limit (limits.groups_per_fleet_max); no further group is taken"
    )]
    PerFleet(u32),
    /// Half of that, for names that a subscription made up.
    #[error(
        "this fleet has {0} groups that are asked for and have no vehicles, the limit (half of \
         limits.groups_per_fleet_max); are their names right?"
    )]
    Unseen(u32),
    /// `limits.group_memberships_max`.
    #[error(
        "this node knows {0} memberships of vehicles in groups, its limit (limits.group_memberships_max); no further \
         one is taken"
    )]
    Memberships(u64),
}
