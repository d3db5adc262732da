//! What a line of the audit log says.

use std::{borrow::Cow, net::IpAddr};

use serde::Serialize;

use crate::{
    fleet::Holder,
    session::token::{self, Identity},
};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A peer was let in.
    Connect,
    /// A connection was refused: `status` is the HTTP answer.
    Refuse,
    /// A peer has said a fresh token in place.
    Renew,
    /// A peer asked for more than it was granted; it stays.
    NotAllowed,
    /// A dashboard has sent a command that was taken.
    Command,
    /// A connection was closed by the gateway: `status` is the close code.
    Evict,
    /// An address was put into the penalty box.
    Penalty,
    /// A call to the control plane: `status` is the HTTP answer.
    Admin,
    /// Somebody's tokens were revoked.
    Revoke,
    /// Settings were read again because of a signal.
    Reload,
}

/// Who a peer claims to be, by a token that was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Publishes.
    Vehicle,
    /// Watches.
    Dashboard,
    /// Gives orders to the node.
    Operator,
}

impl From<token::Role> for Role {
    fn from(role: token::Role) -> Role {
        match role {
            token::Role::Vehicle => Role::Vehicle,
            token::Role::Dashboard => Role::Dashboard,
        }
    }
}

/// Whose act it was. Nobody's, as far as the gateway knows, if all is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Who {
    /// Vehicle, dashboard or operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fleet: Option<Box<str>>,
    /// The vehicle's id, the dashboard's user, the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Box<str>>,
    /// The token's own id (`jti`), if it has one; never the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<Box<str>>,
}

impl From<&Identity> for Who {
    fn from(identity: &Identity) -> Who {
        Who {
            role: Some(identity.role.into()),
            fleet: Some(identity.fleet.as_str().into()),
            subject: Some(identity.subject.as_str().into()),
            token_id: identity.token_id.as_deref().map(Into::into),
        }
    }
}

/// One act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// What was done.
    pub kind: Kind,
    /// When: milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// By whom.
    pub who: Who,
    /// From where.
    pub peer: Option<IpAddr>,
    /// On which connection: what joins the lines of one.
    pub connection: Option<Holder>,
    /// The HTTP status or the close code; 0: none.
    pub status: u16,
    /// What was asked for: a command and its vehicle, a call to the control plane. Shortened to
    /// [`AUDIT_TEXT_BYTES_MAX`](crate::limits::AUDIT_TEXT_BYTES_MAX).
    pub what: Option<Cow<'static, str>>,
    /// Why it came out as it did, in words; shortened in the same way.
    pub why: Option<Cow<'static, str>>,
}

impl Act {
    /// An act of nobody known, of which nothing more is said.
    #[must_use]
    pub fn new(kind: Kind, unix_ms: u64) -> Act {
        Act {
            kind,
            unix_ms,
            who: Who::default(),
            peer: None,
            connection: None,
            status: 0,
            what: None,
            why: None,
        }
    }

    /// Whether it may be repeated without end and leaves all as it was: something that was refused, or a question.
    pub(super) fn changes_nothing(&self) -> bool {
        match self.kind {
            Kind::NotAllowed | Kind::Refuse => true,
            Kind::Admin => {
                let is_question = |what: &str| what.starts_with("GET ");
                (400..500).contains(&self.status) || self.what.as_deref().is_some_and(is_question)
            }
            _ => false,
        }
    }

    /// Appends the line, with its line break.
    pub(super) fn write(&self, node: &str, out: &mut Vec<u8>) {
        let connection = self.connection.map(|holder| {
            let (shard, key) = crate::shard::connection::place(holder);
            format!("{shard}-{}-{}", key.slot, key.generation)
        });
        write_line(
            &Line {
                time: time(self.unix_ms),
                node,
                act: self.kind,
                who: &self.who,
                peer: self.peer.map(|peer| peer.to_canonical()),
                connection,
                status: self.status,
                what: self.what.as_deref(),
                why: self.why.as_deref(),
            },
            out,
        );
    }
}

/// That so many acts are not in the file.
#[derive(Debug, Serialize)]
pub(super) struct Omission<'a> {
    time: String,
    node: &'a str,
    act: &'static str,
    count: u64,
    why: &'static str,
}

impl<'a> Omission<'a> {
    /// Acts that found the queue full.
    pub fn dropped(unix_ms: u64, node: &'a str, count: u64) -> Omission<'a> {
        Omission {
            time: time(unix_ms),
            node,
            act: "dropped",
            count,
            why: "more acts than could be written (limits.audit_queue_max)",
        }
    }

    /// Refusals of strangers beyond what a second takes.
    pub fn refusals(unix_ms: u64, node: &'a str, count: u64) -> Omission<'a> {
        Omission {
            time: time(unix_ms),
            node,
            act: "refuse",
            count,
            why: "more refusals than are written one by one (limits.audit_refusals_per_second_max)",
        }
    }

    /// Acts of those who are known beyond what a second takes of each.
    pub fn repeats(unix_ms: u64, node: &'a str, count: u64) -> Omission<'a> {
        Omission {
            time: time(unix_ms),
            node,
            act: "repeated",
            count,
            why: "more refusals or questions of one who is known than are written one by one",
        }
    }

    /// Appends the line, with its line break.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_line(self, out);
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    node: &'a str,
    act: Kind,
    #[serde(flatten)]
    who: &'a Who,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
}

fn is_zero(status: &u16) -> bool {
    *status == 0
}

/// RFC 3339, UTC, milliseconds.
fn time(unix_ms: u64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(unix_ms);
    humantime::format_rfc3339_millis(at).to_string()
}

/// JSON escapes line breaks, so that one act is one line whatever a peer called itself.
fn write_line(line: &impl Serialize, out: &mut Vec<u8>) {
    let begins = out.len();
    match serde_json::to_writer(&mut *out, line) {
        Ok(()) => out.push(b'\n'),
        // Strings and numbers into memory: nothing in it can fail.
        Err(_) => out.truncate(begins),
    }
}
