//! Groups, as operators set them.
//!
//! | call | what |
//! |---|---|
//! | `GET /admin/fleets/{fleet}/groups` | the groups that have members, by name: `?after=NAME&limit=N` |
//! | `GET /admin/fleets/{fleet}/groups/{group}` | its members, in the order in which the node came to know them: `?after=N&limit=N` |
//! | `PUT` the same | `{"vehicles": [...]}`: these, by an operator's word, and no others |
//! | `POST` the same | `{"add": [...], "remove": [...]}` |
//! | `DELETE` the same | nobody any more, by an operator's word |
//!
//! A vehicle that is in a group by its token stays in it, whatever is set here.

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::json;

use super::{AdminError, Caller, ControlState, answer::Body};
use crate::{
    fleet::{Fleet, groups::Groups},
    limits::{GROUP_BODY_BYTES_MAX, GROUP_NAME_BYTES_MAX, GROUPS_LISTED_MAX, MEMBERS_LISTED_MAX},
    session::event::check_name,
    state::{Change, ChangeError, GroupKeeper},
};

/// What the calls rest on.
#[derive(Debug)]
pub struct GroupCalls {
    /// Who knows them.
    pub fleet: Arc<Fleet>,
    /// Who changes them.
    pub keeper: Arc<GroupKeeper>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page<T> {
    after: Option<T>,
    limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    vehicles: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edits {
    #[serde(default)]
    add: Vec<String>,
    #[serde(default)]
    remove: Vec<String>,
}

/// The calls, with the whole path.
pub(super) fn routes() -> Router<Arc<ControlState>> {
    let one = get(members).put(replace).post(edit).delete(empty);
    Router::new()
        .route("/admin/fleets/{fleet}/groups", get(list))
        .route("/admin/fleets/{fleet}/groups/{group}", one)
        .layer(DefaultBodyLimit::max(GROUP_BODY_BYTES_MAX))
}

async fn list(
    State(state): State<Arc<ControlState>>,
    caller: Caller,
    Path(fleet): Path<String>,
    page: Result<Query<Page<String>>, QueryRejection>,
) -> Result<Response, AdminError> {
    caller.over_fleet(&fleet)?;
    let Query(page) = page.map_err(|error| AdminError::wrong(error.body_text()))?;
    let Fleet {
        registry, groups, ..
    } = &*state.groups.fleet;
    let count = page.limit.unwrap_or(GROUPS_LISTED_MAX);
    let count = count.clamp(1, GROUPS_LISTED_MAX);
    let found = registry.find_fleet(&fleet);
    let after = page.after.unwrap_or_default();
    let mut listed = found.map_or_else(Vec::new, |fleet| groups.list(fleet, &after, count + 1));
    let more = listed.len() > count;
    listed.truncate(count);
    let next = more.then(|| listed.last().map(|last| last.name.clone()));
    let listed: Vec<_> = listed
        .iter()
        .map(|group| {
            json!({
                "name": group.name,
                "members": group.members,
                "by_operator": group.by_operator,
                "by_token": group.by_token,
            })
        })
        .collect();
    let says = json!({ "groups": listed, "next": next.flatten() });
    Ok(axum::Json(says).into_response())
}

async fn members(
    State(state): State<Arc<ControlState>>,
    caller: Caller,
    Path((fleet, group)): Path<(String, String)>,
    page: Result<Query<Page<u32>>, QueryRejection>,
) -> Result<Response, AdminError> {
    caller.over_fleet(&fleet)?;
    let Query(page) = page.map_err(|error| AdminError::wrong(error.body_text()))?;
    let count = page.limit.unwrap_or(MEMBERS_LISTED_MAX);
    let count = count.clamp(1, MEMBERS_LISTED_MAX);
    let Fleet {
        registry, groups, ..
    } = &*state.groups.fleet;
    let both = registry
        .find_fleet(&fleet)
        .and_then(|fleet| Groups::of_both(groups, fleet, &group));
    let Some((by_operator, by_token)) = both else {
        return Err(AdminError::new(
            StatusCode::NOT_FOUND,
            "nobody is in a group of this name",
        ));
    };
    let all = &by_operator | &by_token;
    let from = page.after.map_or(0, |after| after.saturating_add(1));
    let mut numbers: Vec<u32> = all.range(from..).take(count + 1).collect();
    let more = numbers.len() > count;
    numbers.truncate(count);
    let next = more.then(|| numbers.last().copied()).flatten();
    let mut vehicles = Vec::with_capacity(numbers.len());
    registry.ids_of(&numbers, |number, id| {
        vehicles.push(json!({
            "id": id,
            "by_operator": by_operator.contains(number),
            "by_token": by_token.contains(number),
        }));
    });
    let says = json!({ "members": all.len(), "vehicles": vehicles, "next": next });
    Ok(axum::Json(says).into_response())
}

async fn replace(
    State(state): State<Arc<ControlState>>,
    caller: Caller,
    Path((fleet, group)): Path<(String, String)>,
    Body(body): Body<Members>,
) -> Result<Response, AdminError> {
    change(state, caller, fleet, group, Order::Replace(body.vehicles)).await
}

async fn edit(
    State(state): State<Arc<ControlState>>,
    caller: Caller,
    Path((fleet, group)): Path<(String, String)>,
    Body(body): Body<Edits>,
) -> Result<Response, AdminError> {
    if body.add.is_empty() && body.remove.is_empty() {
        return Err(AdminError::wrong(
            "give `add`, `remove` or both: lists of vehicle ids",
        ));
    }
    change(state, caller, fleet, group, Order::Edit(body)).await
}

async fn empty(
    State(state): State<Arc<ControlState>>,
    caller: Caller,
    Path((fleet, group)): Path<(String, String)>,
) -> Result<Response, AdminError> {
    change(state, caller, fleet, group, Order::Replace(Vec::new())).await
}

/// What is to be done with a group.
#[derive(Debug)]
enum Order {
    Replace(Vec<String>),
    Edit(Edits),
}

impl Order {
    fn ids(&self) -> impl Iterator<Item = &String> {
        let (first, second) = match self {
            Order::Replace(vehicles) => (vehicles.as_slice(), [].as_slice()),
            Order::Edit(Edits { add, remove }) => (add.as_slice(), remove.as_slice()),
        };
        first.iter().chain(second)
    }
}

/// 200: it is in force and kept, as far as the answer says so.
async fn change(
    state: Arc<ControlState>,
    caller: Caller,
    fleet: String,
    group: String,
    order: Order,
) -> Result<Response, AdminError> {
    caller.over_fleet(&fleet)?;
    let bounds = state.admin.bounds;
    let wrong = |what: &str, why: String| AdminError::wrong(format!("{what} {why}"));
    check_name(&fleet, bounds.fleet_bytes_max).map_err(|why| wrong("the fleet's name", why))?;
    check_name(&group, GROUP_NAME_BYTES_MAX).map_err(|why| wrong("the group's name", why))?;
    for (at, id) in order.ids().enumerate() {
        let what = format!("vehicle id {at} of the body");
        check_name(id, bounds.subject_bytes_max).map_err(|why| wrong(&what, why))?;
    }
    let keeper = Arc::clone(&state.groups.keeper);
    // The disk may take its time, and shards are waited for.
    let changed = tokio::task::spawn_blocking(move || {
        let change = match &order {
            Order::Replace(vehicles) => Change::Replace(vehicles),
            Order::Edit(Edits { add, remove }) => Change::Members(add, remove),
        };
        keeper.change(&fleet, &group, change)
    });
    let changed = changed
        .await
        .map_err(|_| AdminError::internal("the change did not come to its end"))?
        .map_err(|error| match error {
            ChangeError::Groups(_) | ChangeError::Registry(_) => {
                AdminError::new(StatusCode::INSUFFICIENT_STORAGE, error.to_string())
            }
            ChangeError::Unreadable(_) | ChangeError::NotKept(_) => {
                AdminError::internal(error.to_string())
            }
        })?;
    let mut says = json!({
        "by_operator": changed.members,
        "in_force": changed.in_force,
        "kept": changed.kept,
    });
    if !changed.kept {
        says["note"] = "this node has no state.directory: a restart undoes this".into();
    }
    Ok(axum::Json(says).into_response())
}
