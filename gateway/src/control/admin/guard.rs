//! Who calls, and whether it may. Every admin call comes through here.

use std::{
    fs::File,
    io::{self, Read},
    net::IpAddr,
    sync::{Arc, PoisonError},
};

use axum::{
    extract::{FromRequestParts, MatchedPath, Request, State},
    http::{HeaderMap, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    Admin, ControlState, NO_SUCH_CALL,
    answer::{AdminError, Why},
    spent::{Spent, SpentError},
};
use crate::{
    audit::{self, Act, Kind, Role, Who},
    limits::{OPERATOR_TOKEN_SECONDS_MAX, OPERATOR_TOKENS_FILE_BYTES_MAX},
    session::token::{Operator, TokenError},
    state::Folder,
};

/// The file in the state folder.
const KEPT: &str = "operator-tokens.jsonl";

/// The address at the other end of a control connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// An operator whose token was checked, and used up if the call changes anything. Handlers take it as an argument.
#[derive(Debug, Clone)]
pub struct Caller(pub Operator);

impl Caller {
    /// The call touches this fleet.
    ///
    /// # Errors
    /// 403: the operator is another fleet's.
    pub fn over_fleet(&self, fleet: &str) -> Result<(), AdminError> {
        match &self.0.fleet {
            None => Ok(()),
            Some(own) if own == fleet => Ok(()),
            Some(_) => Err(AdminError::forbidden(
                "your token is for another fleet (its claim `fleet`)",
            )),
        }
    }

    /// The call touches all of the node.
    ///
    /// # Errors
    /// 403: the operator is one fleet's.
    pub fn over_node(&self) -> Result<(), AdminError> {
        match &self.0.fleet {
            None => Ok(()),
            Some(_) => Err(AdminError::forbidden(
                "your token is for one fleet (its claim `fleet`), and this call is for operators of the whole node",
            )),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, AdminError> {
        // The guard has put it there; a route that is not behind the guard lets nobody in.
        parts.extensions.get().cloned().ok_or_else(|| {
            AdminError::new(StatusCode::UNAUTHORIZED, "an operator's token is needed")
        })
    }
}

/// Why a call is not let through, and who asked if the token itself is good.
type Refused = (AdminError, Option<Box<Operator>>);

/// Whose call this is: nobody's but an operator's, with a token that has not been used if it changes anything.
///
/// # Errors
/// Why it is not let through, and who asked if the token itself is good.
pub(in crate::control) async fn admit(
    state: &Arc<ControlState>,
    method: &Method,
    headers: &HeaderMap,
    now_unix: u64,
) -> Result<Caller, Refused> {
    let operator = state.admin.check(headers, now_unix)?;
    if !method.is_safe() {
        let used = {
            let (state, operator) = (Arc::clone(state), operator.clone());
            // A file may be written.
            tokio::task::spawn_blocking(move || state.admin.use_up(&operator, now_unix)).await
        };
        used.unwrap_or_else(|_| Err(AdminError::internal("it did not come to its end")))
            .map_err(|error| (error, Some(Box::new(operator.clone()))))?;
    }
    Ok(Caller(operator))
}

impl Admin {
    /// Whose token this is.
    pub(super) fn check(&self, headers: &HeaderMap, now_unix: u64) -> Result<Operator, Refused> {
        if headers.contains_key(header::ORIGIN) {
            return Err((AdminError::forbidden("not for web pages"), None));
        }
        let refused = |status, says: String| (AdminError::new(status, says), None);
        let token = bearer(headers).ok_or_else(|| {
            let says = "an operator's token is needed: Authorization: Bearer TOKEN, or use `longhaul admin`";
            refused(StatusCode::UNAUTHORIZED, says.to_owned())
        })?;
        let operator = self
            .trust
            .verifier()
            .verify_operator(token, now_unix)
            .map_err(|error| {
                let status = match error {
                    TokenError::NotOperator => StatusCode::FORBIDDEN,
                    _ => StatusCode::UNAUTHORIZED,
                };
                refused(status, error.to_string())
            })?;
        if self.trust.revocations().hit_operator(&operator).is_some() {
            let says = "the token has been revoked; ask for a new one";
            let error = AdminError::new(StatusCode::UNAUTHORIZED, says);
            return Err((error, Some(Box::new(operator))));
        }
        Ok(operator)
    }

    /// A token is good for one call that changes anything.
    pub(super) fn use_up(&self, operator: &Operator, now_unix: u64) -> Result<(), AdminError> {
        let unauthorized = |says: String| Err(AdminError::new(StatusCode::UNAUTHORIZED, says));
        let Some(issued) = operator.issued_unix else {
            return unauthorized(
                "a token for a call that changes anything needs the claim `iat`".to_owned(),
            );
        };
        if operator.expires_unix.saturating_sub(issued) > OPERATOR_TOKEN_SECONDS_MAX {
            return unauthorized(format!(
                "a token for a call that changes anything is good for at most {OPERATOR_TOKEN_SECONDS_MAX} s (exp - \
                 iat); make one for each call"
            ));
        }
        // What was used before the start is known from the state folder; without one, from the time alone. A token of the
        // second of the start, or of one that is yet to come, may have been used then.
        let remembers = self.folder.is_some();
        if issued < self.started_unix || (!remembers && issued == self.started_unix) {
            return unauthorized(
                "this token is not newer than the process, which cannot know whether it was used; make a new one"
                    .to_owned(),
            );
        }
        if !remembers && issued > now_unix {
            return unauthorized(format!(
                "this token was issued {} s from now (iat) by this node's clock, and there is no state folder \
                 (state.directory) that remembers it across a restart; mend the clock of who made it, or wait",
                issued - now_unix
            ));
        }
        let until = operator.expires_unix.saturating_add(self.leeway_s);
        // Nothing under the lock can panic half way.
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let spend = |spent: &mut Spent| {
            let used = spent.spend(&operator.token_id, until, now_unix);
            used.map_err(|error| {
                let status = match error {
                    SpentError::Already => StatusCode::CONFLICT,
                    SpentError::Full => StatusCode::SERVICE_UNAVAILABLE,
                };
                AdminError::new(status, error.to_string())
            })
        };
        let Some(folder) = &self.folder else {
            return spend(&mut spent);
        };
        let not_kept = |error: io::Error| {
            AdminError::internal(format!(
                "used tokens cannot be kept in {KEPT} of the state folder (state.directory), so nothing was done: {error}"
            ))
        };
        // Another process of this node may use the same folder.
        let _turn = folder.turn().map_err(not_kept)?;
        learn(&mut spent, folder).map_err(not_kept)?;
        spend(&mut spent)?;
        folder.replace(KEPT, &spent.lines()).map_err(not_kept)
    }
}

/// What stands in the folder, if anything does.
fn learn(spent: &mut Spent, folder: &Folder) -> io::Result<()> {
    let file = match File::open(folder.path().join(KEPT)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let mut text = Vec::new();
    file.take(OPERATOR_TOKENS_FILE_BYTES_MAX + 1)
        .read_to_end(&mut text)?;
    if text.len() as u64 > OPERATOR_TOKENS_FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    spent.learn(&text).map_err(io::Error::from)
}

/// RFC 6750 §2.1.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("Bearer")
        .then(|| token.trim_start())
}

/// Lets an operator's call through, and records it whatever becomes of it: a caller that hangs up, or does not wait, ends
/// nothing that has begun.
pub(super) async fn guard(
    State(state): State<Arc<ControlState>>,
    request: Request,
    next: Next,
) -> Response {
    let mut act = of_call(&request, audit::unix_ms());
    let Ok(place) = Arc::clone(&state.admin.calls).try_acquire_owned() else {
        let says = "as many calls are under way as there may be; try again in a second";
        let response = AdminError::new(StatusCode::SERVICE_UNAVAILABLE, says).into_response();
        record(&state, act, &response);
        return response;
    };
    let call = tokio::spawn(async move {
        let response = carry_out(&state, &mut act, request, next).await;
        record(&state, act, &response);
        drop(place);
        response
    });
    call.await
        .unwrap_or_else(|_| AdminError::internal("it did not come to its end").into_response())
}

async fn carry_out(
    state: &Arc<ControlState>,
    act: &mut Act,
    request: Request,
    next: Next,
) -> Response {
    let now_unix = act.unix_ms / 1_000;
    let (mut parts, body) = request.into_parts();
    match admit(state, &parts.method, &parts.headers, now_unix).await {
        Ok(caller) => {
            act.who = who(&caller.0);
            parts.extensions.insert(caller);
            next.run(Request::from_parts(parts, body)).await
        }
        Err((error, operator)) => {
            act.who = operator.as_deref().map_or_else(Who::default, who);
            error.into_response()
        }
    }
}

fn record(state: &ControlState, act: Act, response: &Response) {
    let why = response.extensions().get::<Why>();
    state.admin.audit.record(Act {
        status: response.status().as_u16(),
        why: why.map(|Why(says)| says.clone().into()),
        ..act
    });
}

/// The act of a call, of which it is not known who made it and what became of it.
pub(in crate::control) fn of_call(request: &Request, now_ms: u64) -> Act {
    // Without the query, which no call needs, and not the path of a call that there is not: nobody knows what is in it.
    let path = match request.extensions().get::<MatchedPath>() {
        Some(call) if call.as_str() != NO_SUCH_CALL => request.uri().path(),
        _ => "(no such call)",
    };
    Act {
        peer: request.extensions().get().map(|Peer(address)| *address),
        what: Some(format!("{} {path}", request.method()).into()),
        ..Act::new(Kind::Admin, now_ms)
    }
}

/// An operator, for the audit log.
pub(in crate::control) fn who(operator: &Operator) -> Who {
    Who {
        role: Some(Role::Operator),
        fleet: operator.fleet.as_deref().map(Into::into),
        subject: Some(operator.subject.as_str().into()),
        token_id: Some(operator.token_id.as_str().into()),
    }
}
