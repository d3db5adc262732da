//! Who calls, and whether it may. Every admin call comes through here.

use std::{
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
    spent::SpentError,
};
use crate::{
    audit::{self, Act, Kind, Role, Who},
    limits::OPERATOR_TOKEN_SECONDS_MAX,
    session::token::{Operator, TokenError},
};

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

impl Admin {
    /// Whose call this is: nobody's but an operator's, with a token that has not been used if it changes anything.
    ///
    /// # Errors
    /// Why it is not let through, and who asked if the token itself is good.
    pub fn admit(
        &self,
        method: &Method,
        headers: &HeaderMap,
        now_unix: u64,
    ) -> Result<Caller, (AdminError, Option<Box<Operator>>)> {
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
        if !method.is_safe() {
            self.use_up(&operator, now_unix)
                .map_err(|error| (error, Some(Box::new(operator.clone()))))?;
        }
        Ok(Caller(operator))
    }

    /// A token is good for one call that changes anything.
    fn use_up(&self, operator: &Operator, now_unix: u64) -> Result<(), AdminError> {
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
        if issued < self.started_unix {
            return unauthorized(
                "this token is older than the process, which cannot know whether it was used; make a new one"
                    .to_owned(),
            );
        }
        let until = operator.expires_unix.saturating_add(self.leeway_s);
        // Nothing under the lock can panic half way.
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent
            .spend(&operator.token_id, until, now_unix)
            .map_err(|error| {
                let status = match error {
                    SpentError::Already => StatusCode::CONFLICT,
                    SpentError::Full => StatusCode::SERVICE_UNAVAILABLE,
                };
                AdminError::new(status, error.to_string())
            })
    }
}

/// RFC 6750 §2.1.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("Bearer")
        .then(|| token.trim_start())
}

/// Lets an operator's call through, and records it whatever becomes of it.
pub(super) async fn guard(
    State(state): State<Arc<ControlState>>,
    mut request: Request,
    next: Next,
) -> Response {
    let now_ms = audit::unix_ms();
    let mut act = of_call(&request, now_ms);
    let admitted = state
        .admin
        .admit(request.method(), request.headers(), now_ms / 1_000);
    let response = match admitted {
        Ok(caller) => {
            act.who = who(&caller.0);
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err((error, operator)) => {
            act.who = operator.as_deref().map_or_else(Who::default, who);
            error.into_response()
        }
    };
    act.status = response.status().as_u16();
    act.why = response
        .extensions()
        .get::<Why>()
        .map(|Why(says)| says.clone().into());
    state.admin.audit.record(act);
    response
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
