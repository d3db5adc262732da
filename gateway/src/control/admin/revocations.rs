//! Calls about who is not to be here: for good, or just now.

use std::sync::Arc;

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    ControlState,
    answer::{AdminError, Body},
    guard::{Caller, who},
};
use crate::{
    audit::{Act, Kind, unix_ms},
    limits::REVOCATIONS_LISTED_MAX,
    revocations::{KeepError, Origin},
    session::{
        revocation::{Entry, Whom},
        token::Operator,
    },
};

/// 200: the entry is in force, and whoever it hits is being closed. The body is an entry, as in a file of them;
/// `issued_before` may be left out: the tokens that there are. The answer has the entry as it is then: one that was there
/// is made stricter, not replaced.
pub(super) async fn add(
    State(state): State<Arc<ControlState>>,
    caller: Caller,
    Body(entry): Body<Entry>,
) -> Result<Response, AdminError> {
    let now_unix = unix_ms() / 1_000;
    let latest = now_unix.saturating_add(state.admin.leeway_s);
    let mut revocation = entry
        .read(Some(latest), state.admin.bounds)
        .map_err(|error| AdminError::wrong(error.to_string()))?;
    may_touch(&caller, &revocation.whom)?;
    revocation.terms.node_wide = caller.over_node().is_ok();
    if revocation
        .terms
        .until
        .is_some_and(|until| until <= now_unix)
    {
        return Err(AdminError::wrong("until is over already"));
    }
    let revoked = in_background(&state, move |state| {
        let what = format!("revoked: {}", revocation.whom);
        let reason = revocation.terms.reason.clone();
        let revoked = state.admin.revocations.add(revocation)?;
        record(state, &caller.0, what, reason);
        Ok(revoked)
    })
    .await?;
    let entry = Entry::from(&revoked);
    let survives = state.admin.revocations.is_durable();
    let note = if survives {
        "it is kept in the state folder"
    } else {
        "there is no state folder (state.directory): it is forgotten when this process ends"
    };
    let says = json!({ "revoked": entry, "survives_restart": survives, "note": note });
    Ok(axum::Json(says).into_response())
}

/// 200: the entry is not in force any more. The query says which, in the words of the body that made it: RFC 9110 §9.3.5
/// gives a body of DELETE no meaning.
pub(super) async fn remove(
    State(state): State<Arc<ControlState>>,
    caller: Caller,
    entry: Result<Query<Entry>, QueryRejection>,
) -> Result<Response, AdminError> {
    let Query(entry) = entry.map_err(|error| AdminError::wrong(error.body_text()))?;
    let revocation = entry
        .read(Some(0), state.admin.bounds)
        .map_err(|error| AdminError::wrong(error.to_string()))?;
    let whom = revocation.whom;
    may_touch(&caller, &whom)?;
    let what = format!("taken back: {whom}");
    let done = what.clone();
    in_background(&state, move |state| {
        let node_wide = caller.over_node().is_ok();
        state.admin.revocations.remove(&whom, node_wide)?;
        record(state, &caller.0, done, None);
        Ok(())
    })
    .await?;
    Ok(axum::Json(json!({ "done": what })).into_response())
}

/// Where a list goes on.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Page {
    from: usize,
}

#[derive(Debug, Serialize)]
struct Listed {
    #[serde(flatten)]
    entry: Entry,
    origin: &'static str,
}

/// 200: the entries, sorted, at most so many at a time; `next` says where the list goes on (`?from=`).
pub(super) async fn list(
    State(state): State<Arc<ControlState>>,
    caller: Caller,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, AdminError> {
    let Query(page) = page.map_err(|error| AdminError::wrong(error.body_text()))?;
    let all = in_background(&state, |state| Ok(state.admin.revocations.list())).await?;
    let mine = all
        .iter()
        .filter(|(entry, _)| may_touch(&caller, &entry.whom).is_ok());
    let total = mine.clone().count();
    let listed: Vec<_> = mine
        .skip(page.from)
        .take(REVOCATIONS_LISTED_MAX)
        .map(|(entry, origin)| Listed {
            entry: entry.into(),
            origin: match origin {
                Origin::File => "file",
                Origin::Call => "call",
            },
        })
        .collect();
    let next = page.from.saturating_add(listed.len());
    let next = (next < total && !listed.is_empty()).then_some(next);
    let says = json!({ "revocations": listed, "total": total, "next": next });
    Ok(axum::Json(says).into_response())
}

/// Whom to close.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Eviction {
    fleet: String,
    subject: Option<String>,
}

/// 202: the connections of a vehicle or user, or of all of a fleet, are being closed; whoever it is may come back.
pub(super) async fn evict(
    State(state): State<Arc<ControlState>>,
    caller: Caller,
    Body(Eviction { fleet, subject }): Body<Eviction>,
) -> Result<Response, AdminError> {
    let entry = Entry {
        fleet: Some(fleet),
        subject,
        ..Entry::default()
    };
    let whom = entry
        .read(Some(0), state.admin.bounds)
        .map_err(|error| AdminError::wrong(error.to_string()))?
        .whom;
    may_touch(&caller, &whom)?;
    let what = format!("evicted: {whom}");
    in_background(&state, move |state| {
        state.admin.revocations.evict(whom);
        Ok(())
    })
    .await?;
    Ok((StatusCode::ACCEPTED, axum::Json(json!({ "done": what }))).into_response())
}

/// An operator of one fleet may touch what stays within it.
fn may_touch(caller: &Caller, whom: &Whom) -> Result<(), AdminError> {
    match whom.fleet() {
        Some(fleet) => caller.over_fleet(fleet),
        None => caller.over_node().map_err(|mut error| {
            if matches!(whom, Whom::Token(..)) {
                error.says.push_str("; name the fleet beside token_id");
            }
            error
        }),
    }
}

/// Files are written, and those who read wait for that; inboxes may be full: not on the thread that serves everybody.
async fn in_background<T: Send + 'static>(
    state: &Arc<ControlState>,
    work: impl FnOnce(&ControlState) -> Result<T, KeepError> + Send + 'static,
) -> Result<T, AdminError> {
    let state = Arc::clone(state);
    tokio::task::spawn_blocking(move || work(&state))
        .await
        .map_err(|_| AdminError::internal("it did not come to its end"))?
        .map_err(|error| {
            let status = match error {
                KeepError::Full(_) => StatusCode::SERVICE_UNAVAILABLE,
                KeepError::Write(_) => StatusCode::INTERNAL_SERVER_ERROR,
                KeepError::Unknown => StatusCode::NOT_FOUND,
                KeepError::NodeWide => StatusCode::FORBIDDEN,
                KeepError::InFile => StatusCode::CONFLICT,
            };
            AdminError::new(status, error.to_string())
        })
}

fn record(state: &ControlState, operator: &Operator, what: String, why: Option<Box<str>>) {
    state.admin.audit.record(Act {
        who: who(operator),
        what: Some(what.into()),
        why: why.map(|why| String::from(why).into()),
        ..Act::new(Kind::Revoke, unix_ms())
    });
}
