//! What tokens are not good any more, before their time. Pure: entries in, answers out; time is passed in.
//!
//! An entry names whom it hits, and by when those tokens were issued; one that was issued later is good. So whoever was
//! revoked comes back with a new token, if the issuer gives it one.
//!
//! | in a call or a file | hits |
//! |---|---|
//! | `{"token_id": "..."}`, perhaps with `"fleet"` | the one token, whenever it was issued |
//! | `{"fleet": "...", "subject": "..."}` | every token of a vehicle, or a dashboard's user |
//! | `{"fleet": "..."}` | every token of a fleet |
//! | `{"operator": "..."}` | every token of an operator |
//! | `{"all": true}` | every token |
//!
//! Beside that: `issued_before` (seconds since the Unix epoch; needed in a file, the moment of a call), `until` (when the
//! entry may be forgotten), `reason` (for people). A token without `iat` counts as issued in 1970.
#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, hash_map::Entry as MapEntry},
    fmt,
};

use serde::{Deserialize, Serialize};

use super::token::{IdBounds, Identity, Operator, TokenError};
use crate::limits::REVOCATION_REASON_BYTES_MAX;

/// Whom an entry hits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Whom {
    /// Every token.
    All,
    /// Every token of a fleet.
    Fleet(Box<str>),
    /// Every token of an operator, of whatever fleet.
    Operator(Box<str>),
    /// Every token of a vehicle or user: fleet and subject.
    Subject(Box<str>, Box<str>),
    /// One token, by its id; with a fleet, only if it is of that.
    Token(Box<str>, Option<Box<str>>),
}

impl Whom {
    /// The fleet that it stays within, if it does.
    pub fn fleet(&self) -> Option<&str> {
        match self {
            Whom::All | Whom::Operator(_) => None,
            Whom::Fleet(fleet) | Whom::Subject(fleet, _) => Some(fleet),
            Whom::Token(_, fleet) => fleet.as_deref(),
        }
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whom::All => out.write_str("every token"),
            Whom::Fleet(fleet) => write!(out, "fleet {fleet:?}"),
            Whom::Operator(subject) => write!(out, "operator {subject:?}"),
            Whom::Subject(fleet, subject) => write!(out, "{subject:?} of fleet {fleet:?}"),
            Whom::Token(id, None) => write!(out, "token {id:?}"),
            Whom::Token(id, Some(fleet)) => write!(out, "token {id:?} of fleet {fleet:?}"),
        }
    }
}

/// What goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Tokens issued before this moment are hit, in seconds since the Unix epoch. Of a token's id: all.
    pub issued_before: u64,
    /// The entry is forgotten at this moment, if it is.
    pub until: Option<u64>,
    /// Why, for people.
    pub reason: Option<Box<str>>,
    /// An operator of the whole node has made it: those of a fleet may not take it back.
    pub node_wide: bool,
}

impl Terms {
    /// Whatever either of two entries hits, as long as either does.
    pub fn merge(&mut self, other: Terms) {
        self.issued_before = self.issued_before.max(other.issued_before);
        self.until = self
            .until
            .zip(other.until)
            .map(|(one, other)| one.max(other));
        // The words of who may do more stay.
        if other.reason.is_some() && (other.node_wide || !self.node_wide) {
            self.reason = other.reason;
        }
        self.node_wide |= other.node_wide;
    }
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Whom it hits.
    pub whom: Whom,
    /// From when to when.
    pub terms: Terms,
}

/// An entry as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Entry {
    /// The token's own id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// The fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fleet: Option<String>,
    /// A vehicle's id or a user of that fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// An operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Everybody.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// See [`Terms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_before: Option<u64>,
    /// See [`Terms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// See [`Terms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// See [`Terms`]. In a call, it is who calls that counts.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub node_wide: bool,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// None or several of the forms.
    #[error(
        "say whom it hits, by one of: token_id (with or without fleet); fleet and subject; fleet; operator; all = true"
    )]
    Whom,
    /// In a file there is no moment of a call.
    #[error(
        "issued_before is needed (seconds since the Unix epoch): tokens issued before that are not good any more"
    )]
    IssuedBefore,
    /// An id that no token can have.
    #[error("the id of nobody: {0}")]
    Id(#[from] TokenError),
    /// A text that is too long.
    #[error("the reason has more than {REVOCATION_REASON_BYTES_MAX} bytes")]
    Reason,
}

impl Entry {
    /// What the entry means. `called_unix`: the latest `iat` that a token may have at the moment of a call, if it comes by
    /// one: a clock that runs ahead must not save a token that there is.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(
        self,
        called_unix: Option<u64>,
        bounds: IdBounds,
    ) -> Result<Revocation, EntryError> {
        let Entry {
            token_id,
            fleet,
            subject,
            operator,
            all,
            ..
        } = self;
        let whom = match (token_id, fleet, subject, operator, all) {
            (Some(id), fleet, None, None, false) => Whom::Token(id.into(), fleet.map(Into::into)),
            (None, Some(fleet), Some(subject), None, false) => {
                Whom::Subject(fleet.into(), subject.into())
            }
            (None, Some(fleet), None, None, false) => Whom::Fleet(fleet.into()),
            (None, None, None, Some(subject), false) => Whom::Operator(subject.into()),
            (None, None, None, None, true) => Whom::All,
            _ => return Err(EntryError::Whom),
        };
        match &whom {
            Whom::All => {}
            Whom::Fleet(fleet) => bounds.check(Some(fleet), "x", None)?,
            Whom::Operator(subject) => bounds.check(None, subject, None)?,
            Whom::Subject(fleet, subject) => bounds.check(Some(fleet), subject, None)?,
            Whom::Token(id, fleet) => bounds.check(fleet.as_deref(), "x", Some(id))?,
        }
        let reason = self.reason.map(Into::<Box<str>>::into);
        if reason
            .as_ref()
            .is_some_and(|reason| reason.len() > REVOCATION_REASON_BYTES_MAX)
        {
            return Err(EntryError::Reason);
        }
        let issued_before = match (self.issued_before, called_unix, &whom) {
            (Some(moment), _, _) => moment,
            // A token of that very second is hit as well: times have no fractions.
            (None, Some(now), _) => now.saturating_add(1),
            (None, None, Whom::Token(..)) => 0,
            (None, None, _) => return Err(EntryError::IssuedBefore),
        };
        let terms = Terms {
            issued_before,
            until: self.until,
            reason,
            node_wide: self.node_wide,
        };
        Ok(Revocation { whom, terms })
    }
}

impl From<&Revocation> for Entry {
    fn from(Revocation { whom, terms }: &Revocation) -> Entry {
        let mut entry = Entry {
            issued_before: Some(terms.issued_before),
            until: terms.until,
            reason: terms.reason.as_deref().map(str::to_owned),
            node_wide: terms.node_wide,
            ..Entry::default()
        };
        let owned = |text: &str| Some(text.to_owned());
        match whom {
            Whom::All => entry.all = true,
            Whom::Fleet(fleet) => entry.fleet = owned(fleet),
            Whom::Operator(subject) => entry.operator = owned(subject),
            Whom::Subject(fleet, subject) => {
                (entry.fleet, entry.subject) = (owned(fleet), owned(subject));
            }
            Whom::Token(id, fleet) => {
                entry.token_id = owned(id);
                entry.fleet = fleet.as_deref().map(str::to_owned);
                entry.issued_before = None;
            }
        }
        entry
    }
}

/// What of a token matters here.
#[derive(Debug, Clone, Copy)]
struct Bearer<'a> {
    operator: bool,
    fleet: Option<&'a str>,
    subject: &'a str,
    token_id: Option<&'a str>,
    issued_unix: u64,
}

/// All entries: an immutable snapshot.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    entries: HashMap<Whom, Terms>,
    /// When the next one is to be forgotten.
    next_end: Option<u64>,
}

impl Revocations {
    /// The entries that are in force at `now_unix`. Of two that hit the same, the stricter counts.
    pub fn new(entries: impl IntoIterator<Item = Revocation>, now_unix: u64) -> Revocations {
        let mut merged: HashMap<Whom, Terms> = HashMap::new();
        for Revocation { whom, terms } in entries {
            if terms.until.is_some_and(|until| until <= now_unix) {
                continue;
            }
            match merged.entry(whom) {
                MapEntry::Occupied(mut before) => before.get_mut().merge(terms),
                MapEntry::Vacant(place) => {
                    place.insert(terms);
                }
            }
        }
        Revocations {
            next_end: merged.values().filter_map(|terms| terms.until).min(),
            entries: merged,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether an entry is to be forgotten at `now_unix`.
    pub fn has_ended(&self, now_unix: u64) -> bool {
        self.next_end.is_some_and(|end| end <= now_unix)
    }

    /// The entry that a vehicle's or a dashboard's token is hit by, if one does.
    pub fn hit(&self, identity: &Identity) -> Option<&Terms> {
        self.against(Bearer {
            operator: false,
            fleet: Some(&identity.fleet),
            subject: &identity.subject,
            token_id: identity.token_id.as_deref(),
            issued_unix: identity.issued_unix.unwrap_or(0),
        })
    }

    /// The same of an operator's.
    pub fn hit_operator(&self, operator: &Operator) -> Option<&Terms> {
        self.against(Bearer {
            operator: true,
            fleet: operator.fleet.as_deref(),
            subject: &operator.subject,
            token_id: Some(&operator.token_id),
            issued_unix: operator.issued_unix.unwrap_or(0),
        })
    }

    fn against(&self, bearer: Bearer<'_>) -> Option<&Terms> {
        if self.entries.is_empty() {
            return None;
        }
        if let Some(id) = bearer.token_id {
            let token = |fleet: Option<&str>| Whom::Token(id.into(), fleet.map(Into::into));
            let of_any = self.entries.get(&token(None));
            let of_fleet = || self.entries.get(&token(Some(bearer.fleet?)));
            if let Some(terms) = of_any.or_else(of_fleet) {
                return Some(terms);
            }
        }
        let subject = match (bearer.operator, bearer.fleet) {
            (true, _) => Some(Whom::Operator(bearer.subject.into())),
            (false, Some(fleet)) => Some(Whom::Subject(fleet.into(), bearer.subject.into())),
            (false, None) => None,
        };
        let fleet = bearer.fleet.map(|fleet| Whom::Fleet(fleet.into()));
        [subject, fleet, Some(Whom::All)]
            .into_iter()
            .flatten()
            .filter_map(|whom| self.entries.get(&whom))
            .find(|terms| bearer.issued_unix < terms.issued_before)
    }

    /// The entries that hit somebody whom those of `before` did not.
    pub fn beyond(&self, before: &Revocations) -> Vec<(Whom, u64)> {
        let is_new = |(whom, terms): &(&Whom, &Terms)| {
            before.entries.get(*whom).is_none_or(|old| {
                !matches!(whom, Whom::Token(..)) && old.issued_before < terms.issued_before
            })
        };
        self.entries
            .iter()
            .filter(is_new)
            .map(|(whom, terms)| (whom.clone(), terms.issued_before))
            .collect()
    }
}

#[cfg(test)]
mod tests;
