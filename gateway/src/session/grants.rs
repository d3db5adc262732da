//! What a token grants: the claims `groups` and `grants`, as bounded data. What they mean on this node is for others.
//!
//! A dashboard's entry says of which vehicles (`fleet`, `vehicles`, `groups`; together, if there are several), of which
//! `topics` (left out: all), what its bearer `may` do (`read`, `command`; left out: `read`), and until when. A vehicle's
//! entry with `publish` says what it may publish. Entries add up.
//!
//! What is not understood must not widen a token: an unknown field could have narrowed its entry, so the token is refused;
//! an unknown right is left out.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{event::check_topic, token::TokenError, topics::Topics};
use crate::limits::{
    GRANT_BYTES_MAX, GRANT_NAMES_MAX, GRANTS_MAX, GROUP_NAME_BYTES_MAX, GROUPS_PER_TOKEN_MAX,
};

/// The entries of a token. None of them: its bearer may nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants(pub Box<[Grant]>);

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Of which vehicles. Of a vehicle's own entry: [`Whose::FLEET`], which includes itself.
    pub vehicles: Whose,
    /// Of which topics.
    pub topics: TopicSet,
    /// May be told of them.
    pub read: bool,
    /// A vehicle: may publish them.
    pub publish: bool,
    /// May send commands to these vehicles, whatever the topics.
    pub command: bool,
    /// When the entry ends, in seconds since the Unix epoch; none: with the token.
    pub until_unix: Option<u64>,
}

/// Vehicles: the union of what is named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Whose {
    /// All of the fleet, and those that join it later.
    pub fleet: bool,
    /// These, by id.
    pub vehicles: Box<[Box<str>]>,
    /// Those that are in these groups, now or later.
    pub groups: Box<[Box<str>]>,
}

impl Whose {
    /// All of the fleet.
    pub fn whole_fleet() -> Whose {
        Whose {
            fleet: true,
            ..Whose::default()
        }
    }
}

/// Topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicSet {
    /// All, and those that are new to this version.
    All,
    /// These.
    Some {
        /// Positions.
        positions: bool,
        /// Presence.
        presence: bool,
        /// Events of every topic.
        all_events: bool,
        /// Events of these topics.
        events: Box<[Box<str>]>,
    },
}

impl TopicSet {
    /// Whether positions are among them.
    pub fn positions(&self) -> bool {
        matches!(
            self,
            Self::All
                | Self::Some {
                    positions: true,
                    ..
                }
        )
    }

    /// Whether presence is among them.
    pub fn presence(&self) -> bool {
        matches!(self, Self::All | Self::Some { presence: true, .. })
    }

    /// Whether events of this topic are among them.
    pub fn event(&self, topic: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some {
                all_events, events, ..
            } => *all_events || events.binary_search_by(|name| (**name).cmp(topic)).is_ok(),
        }
    }
}

impl Grants {
    /// How many bytes the names in it have, and how many names there are: what it takes to hold it.
    pub fn names(&self) -> (usize, usize) {
        let names = self.0.iter().flat_map(|grant| {
            let events = match &grant.topics {
                TopicSet::All => &[][..],
                TopicSet::Some { events, .. } => events,
            };
            let Whose {
                vehicles, groups, ..
            } = &grant.vehicles;
            vehicles.iter().chain(groups).chain(events)
        });
        names.fold((0, 0), |(bytes, count), name| {
            (bytes + name.len(), count + 1)
        })
    }
}

/// One entry as it stands in a token; a field that stands there twice is an error of serde's.
#[derive(Deserialize)]
pub(super) struct Entry {
    #[serde(default, deserialize_with = "present")]
    fleet: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    vehicles: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    groups: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    topics: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    may: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    until: Option<Value>,
    #[serde(flatten)]
    unknown: HashMap<String, IgnoredAny>,
}

/// A field that is there, were it null: null is no way to leave out what narrows.
pub(super) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Whose token it is: what an entry may say depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bearer {
    Vehicle,
    Dashboard,
}

/// The entries of the claim `grants`. `id_bytes_max`: of a vehicle's id.
pub(super) fn grants(
    entries: Vec<Entry>,
    bearer: Bearer,
    id_bytes_max: usize,
) -> Result<Grants, TokenError> {
    if entries.len() > GRANTS_MAX {
        return Err(TokenError::TooMany {
            claim: "grants",
            count: entries.len(),
            count_max: GRANTS_MAX,
        });
    }
    let grants = entries
        .into_iter()
        .enumerate()
        .map(|(at, entry)| {
            entry
                .understand(bearer, id_bytes_max)
                .map_err(|wrong| TokenError::Grant { at, wrong })
        })
        .collect::<Result<Box<_>, _>>()
        .map(Grants)?;
    let (bytes, count) = grants.names();
    if count > GRANT_NAMES_MAX {
        return Err(TokenError::TooMany {
            claim: "grants",
            count,
            count_max: GRANT_NAMES_MAX,
        });
    }
    if bytes > GRANT_BYTES_MAX {
        return Err(TokenError::TooLong {
            claim: "grants",
            bytes,
            bytes_max: GRANT_BYTES_MAX,
        });
    }
    Ok(grants)
}

/// The groups of the claim `groups`, sorted, each once.
pub(super) fn groups(mut names: Vec<String>) -> Result<Box<[Box<str>]>, TokenError> {
    if names.len() > GROUPS_PER_TOKEN_MAX {
        return Err(TokenError::TooMany {
            claim: "groups",
            count: names.len(),
            count_max: GROUPS_PER_TOKEN_MAX,
        });
    }
    for name in &names {
        super::token::check_id("groups", name, GROUP_NAME_BYTES_MAX)?;
    }
    names.sort_unstable();
    names.dedup();
    Ok(names.into_iter().map(String::into_boxed_str).collect())
}

type Wrong = &'static str;

impl Entry {
    fn understand(self, bearer: Bearer, id_bytes_max: usize) -> Result<Grant, Wrong> {
        if !self.unknown.is_empty() {
            return Err(
                "has a field that this gateway does not know, which might have narrowed it",
            );
        }
        let named =
            |value: &Option<Value>| matches!(value, Some(value) if *value != Value::Bool(true));
        let vehicles = match bearer {
            // It is about what the vehicle itself may do: others are none of its business.
            Bearer::Vehicle
                if named(&self.fleet) || named(&self.vehicles) || named(&self.groups) =>
            {
                return Err("names vehicles, and a vehicle publishes for itself only");
            }
            Bearer::Vehicle => Whose::whole_fleet(),
            Bearer::Dashboard => {
                if self.fleet.is_none() && self.vehicles.is_none() && self.groups.is_none() {
                    return Err("names no vehicles: give `fleet`, `vehicles` or `groups`");
                }
                Whose {
                    fleet: flag(self.fleet)?,
                    vehicles: names(self.vehicles, |id| id_is_good(id, id_bytes_max))?
                        .unwrap_or_default(),
                    groups: names(self.groups, |name| id_is_good(name, GROUP_NAME_BYTES_MAX))?
                        .unwrap_or_default(),
                }
            }
        };
        let topics = match names(self.topics, |topic| {
            Topics::RESERVED.contains(&topic) || check_topic(topic).is_ok()
        })? {
            None => TopicSet::All,
            Some(names) => topics(names),
        };
        let (mut read, mut publish, mut command) = (false, false, false);
        match names(self.may, |_| true)? {
            None => read = true,
            Some(rights) => {
                for right in &rights {
                    match &**right {
                        "read" => read = true,
                        "publish" => publish = true,
                        "command" => command = true,
                        _ => {}
                    }
                }
            }
        }
        Ok(Grant {
            vehicles,
            topics,
            read: read && bearer == Bearer::Dashboard,
            publish: publish && bearer == Bearer::Vehicle,
            command: command && bearer == Bearer::Dashboard,
            until_unix: seconds(self.until)?,
        })
    }
}

fn topics(names: Box<[Box<str>]>) -> TopicSet {
    let has = |name: &str| names.iter().any(|one| **one == *name);
    let (positions, presence, all_events) = (
        has(Topics::POSITIONS),
        has(Topics::PRESENCE),
        has(Topics::EVENTS),
    );
    let events = names
        .into_iter()
        .filter(|name| !Topics::RESERVED.contains(&&**name))
        .collect();
    TopicSet::Some {
        positions,
        presence,
        all_events,
        events,
    }
}

fn flag(value: Option<Value>) -> Result<bool, Wrong> {
    match value {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(_) => Err("has a `fleet` that is neither true nor false"),
    }
}

fn seconds(value: Option<Value>) -> Result<Option<u64>, Wrong> {
    match value {
        None => Ok(None),
        Some(Value::Number(number)) => match number.as_f64() {
            // The cast saturates, and a time before 1970 counts as 1970.
            Some(seconds) => Ok(Some(seconds as u64)),
            None => Err("has an `until` that is no number of seconds"),
        },
        Some(_) => Err("has an `until` that is no number of seconds"),
    }
}

/// A list of names, sorted, each once. None: it is not there.
fn names(
    value: Option<Value>,
    is_good: impl Fn(&str) -> bool,
) -> Result<Option<Box<[Box<str>]>>, Wrong> {
    let Some(value) = value else { return Ok(None) };
    let Value::Array(values) = value else {
        return Err("has something else than a list of names where one belongs");
    };
    let mut names = Vec::with_capacity(values.len());
    for value in values {
        let Value::String(name) = value else {
            return Err("has something else than a name in a list of names");
        };
        if !is_good(&name) {
            return Err("has a name that is empty, too long, or has a control character");
        }
        names.push(name.into_boxed_str());
    }
    names.sort_unstable();
    names.dedup();
    Ok(Some(names.into()))
}

fn id_is_good(id: &str, bytes_max: usize) -> bool {
    !id.is_empty() && id.len() <= bytes_max && !id.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
