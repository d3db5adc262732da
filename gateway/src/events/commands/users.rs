//! The commands of one user, and where the user is.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use longhaul_filter_engine::FleetId;

use crate::fleet::Holder;

/// A user with commands. It is there as long as there are any.
#[derive(Debug, Default)]
pub struct User {
    /// Numbers, by the user's own.
    commands: HashMap<u64, u64>,
    /// Numbers of those that have a result, the oldest first.
    pub results: VecDeque<u64>,
    /// The newest connection, as long as it is not known to be gone.
    pub newest: Option<Holder>,
}

#[derive(Debug)]
struct Fleet {
    name: Arc<str>,
    users: HashMap<Arc<str>, User>,
}

/// All users with commands.
#[derive(Debug, Default)]
pub struct Users(HashMap<FleetId, Fleet>);

impl Users {
    /// What a fleet is called that has commands.
    pub fn fleet_name(&self, fleet: FleetId) -> &str {
        self.0.get(&fleet).map_or("", |fleet| &fleet.name)
    }

    /// The gateway's number of a user's command.
    pub fn number(&self, fleet: FleetId, user: &str, command_id: u64) -> Option<u64> {
        let user = self.0.get(&fleet)?.users.get(user)?;
        user.commands.get(&command_id).copied()
    }

    /// Nobody has commands.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A user who has commands.
    pub fn get_mut(&mut self, fleet: FleetId, user: &str) -> Option<&mut User> {
        self.0.get_mut(&fleet)?.users.get_mut(user)
    }

    /// A user has one more command.
    pub fn enter(
        &mut self,
        (fleet, fleet_name): (FleetId, &str),
        user: &Arc<str>,
        (command_id, number): (u64, u64),
    ) -> &mut User {
        let fleet = self.0.entry(fleet).or_insert_with(|| Fleet {
            name: fleet_name.into(),
            users: HashMap::new(),
        });
        let user = fleet.users.entry(user.clone()).or_default();
        user.commands.insert(command_id, number);
        user
    }

    /// A command is forgotten, and who has none any more.
    pub fn leave(&mut self, fleet: FleetId, user: &str, (command_id, number): (u64, u64)) {
        let Some(of_fleet) = self.0.get_mut(&fleet) else {
            return;
        };
        if let Some(found) = of_fleet.users.get_mut(user) {
            found.results.retain(|&other| other != number);
            if found.commands.get(&command_id) == Some(&number) {
                found.commands.remove(&command_id);
            }
            if found.commands.is_empty() {
                of_fleet.users.remove(user);
            }
        }
        if of_fleet.users.is_empty() {
            self.0.remove(&fleet);
        }
    }
}

/// What a user with one command weighs beside its name, for the budget: its place in the table, which doubles, and its
/// own tables.
pub const USER_BYTES: usize =
    3 * size_of::<(Arc<str>, User)>() + 4 * size_of::<(u64, u64)>() + 4 * size_of::<u64>() + 64;
