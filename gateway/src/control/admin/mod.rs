//! Orders to a node, for operators: a token of its own for each call that changes anything.
//!
//! | call | what |
//! |---|---|
//! | `GET`, `POST`, `DELETE /admin/revocations` | what tokens are not good any more (`control/admin/revocations.rs`) |
//! | `POST /admin/evict` | closes connections now, of which each may come back |
//! | `/admin/fleets/{fleet}/groups` and below | who is in which group (`control/admin/groups.rs`) |
//! | `POST /admin/reload` | reads keys, certificates and lists again, as SIGHUP does |
//!
//! Every call passes [`guard`]: it refuses web pages, checks the token, sees to it that the token is used once, and
//! records the call in the audit log, refused or not. What comes behind it has a [`Caller`].
//!
//! - `control/admin/guard.rs`: that, and who calls
//! - `control/admin/spent.rs`: tokens that have been used
//! - `control/admin/answer.rs`: bodies and errors, in JSON
#![forbid(unsafe_code)]

mod answer;
mod groups;
mod guard;
mod revocations;
mod spent;

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use serde_json::json;
use tokio::sync::Semaphore;

pub(super) use self::guard::{Peer, admit, of_call, who};
use self::spent::Spent;
pub use self::{answer::AdminError, groups::GroupCalls, guard::Caller};
use super::ControlState;
use crate::{
    audit::Audit,
    limits::{CONTROL_CONNECTIONS_MAX, OPERATOR_TOKENS_SPENT_MAX},
    revocations::Keeper,
    session::{token::IdBounds, trust::Trust},
    state::Folder,
};

/// What admin calls rest on.
pub struct Admin {
    /// Checks tokens.
    pub trust: Arc<Trust>,
    /// Hears of every call.
    pub audit: Arc<Audit>,
    /// How long ids may be.
    pub bounds: IdBounds,
    /// Seconds by which a token's times may be off (auth.leeway_s).
    pub leeway_s: u64,
    /// When this process started, in seconds since the Unix epoch: it cannot know which older tokens were used.
    pub started_unix: u64,
    /// What tokens are not good any more.
    pub revocations: Arc<Keeper>,
    spent: Mutex<Spent>,
    /// Where used tokens are kept across a restart.
    folder: Option<Arc<Folder>>,
    /// Places for calls under way: one goes on when its caller has hung up.
    calls: Arc<Semaphore>,
}

impl Admin {
    /// No token has been used.
    pub fn new(
        trust: Arc<Trust>,
        audit: Arc<Audit>,
        revocations: Arc<Keeper>,
        bounds: IdBounds,
        leeway_s: u64,
        started_unix: u64,
    ) -> Admin {
        Admin {
            trust,
            audit,
            revocations,
            bounds,
            leeway_s,
            started_unix,
            spent: Mutex::new(Spent::new(OPERATOR_TOKENS_SPENT_MAX)),
            folder: None,
            calls: Arc::new(Semaphore::new(CONTROL_CONNECTIONS_MAX)),
        }
    }

    /// Keeps used tokens in this folder, if there is one, so that a later process knows them.
    #[must_use]
    pub fn keeping(self, folder: Option<Arc<Folder>>) -> Admin {
        Admin { folder, ..self }
    }
}

/// Everything else below `/admin`: who asks for it needs a token, too.
const NO_SUCH_CALL: &str = "/admin/{*call}";

/// The calls, below `/admin`.
pub(super) fn router(state: &Arc<ControlState>) -> Router<Arc<ControlState>> {
    Router::new()
        .route("/admin/reload", post(reload))
        .route("/admin/evict", post(revocations::evict))
        .route(
            "/admin/revocations",
            get(revocations::list)
                .post(revocations::add)
                .delete(revocations::remove),
        )
        .merge(groups::routes())
        .route(NO_SUCH_CALL, any(nothing_here))
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(state), guard::guard))
}

/// 200: every part of this node's files was read again. 500: one of them could not be, and is as it was.
async fn reload(
    State(state): State<Arc<ControlState>>,
    caller: Caller,
) -> Result<Response, AdminError> {
    caller.over_node()?;
    let reload = tokio::task::spawn_blocking(move || (state.reload)());
    let parts = reload
        .await
        .map_err(|_| AdminError::internal("the reload did not come to its end"))?;
    let status = if parts.iter().all(|part| part.ok) {
        StatusCode::OK
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    };
    Ok((status, axum::Json(json!({ "parts": parts }))).into_response())
}

async fn nothing_here() -> AdminError {
    AdminError::new(
        StatusCode::NOT_FOUND,
        "there is no such call; docs/operations.md lists them",
    )
}

async fn wrong_method() -> AdminError {
    AdminError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this call has another method; docs/operations.md lists them",
    )
}

#[cfg(test)]
mod tests;
