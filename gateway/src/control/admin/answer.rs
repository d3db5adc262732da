//! Bodies and errors of admin calls, in JSON.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::timeout;

use crate::limits::CONTROL_REQUEST_TIMEOUT;

/// Why a call was not carried out, in words for whoever made it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {says}")]
pub struct AdminError {
    /// The HTTP status.
    pub status: StatusCode,
    /// What was wrong, and what to do.
    pub says: String,
}

impl AdminError {
    /// Any.
    pub fn new(status: StatusCode, says: impl Into<String>) -> AdminError {
        AdminError {
            status,
            says: says.into(),
        }
    }

    /// 400: the body or the address is wrong.
    pub fn wrong(says: impl Into<String>) -> AdminError {
        AdminError::new(StatusCode::BAD_REQUEST, says)
    }

    /// 403: the token is good, but not for this.
    pub fn forbidden(says: impl Into<String>) -> AdminError {
        AdminError::new(StatusCode::FORBIDDEN, says)
    }

    /// 500: the gateway could not do it.
    pub fn internal(says: impl Into<String>) -> AdminError {
        AdminError::new(StatusCode::INTERNAL_SERVER_ERROR, says)
    }
}

/// The same, for the audit log.
#[derive(Debug, Clone)]
pub(super) struct Why(pub String);

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(json!({ "error": self.says }))).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response.extensions_mut().insert(Why(self.says));
        response
    }
}

/// A body in JSON.
///
/// A page that a browser shows cannot say `application/json` without asking first, and nobody answers that it may.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = AdminError;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>, AdminError> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        if kind.is_none_or(|kind| kind != "application/json") {
            return Err(AdminError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "a body in JSON is needed, and the header Content-Type: application/json",
            ));
        }
        // The call goes on when its caller has hung up or the answer is late, and must not wait for ever.
        let bytes = timeout(CONTROL_REQUEST_TIMEOUT, Bytes::from_request(request, state))
            .await
            .map_err(|_| {
                let says = "the body did not come in time";
                AdminError::new(StatusCode::REQUEST_TIMEOUT, says)
            })?
            .map_err(|error| AdminError::new(error.status(), error.body_text()))?;
        serde_json::from_slice(&bytes)
            .map(Body)
            .map_err(|error| AdminError::wrong(format!("the body is not as it must be: {error}")))
    }
}
