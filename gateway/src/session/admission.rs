//! Who gets in: an upgrade request in, an identity and a 101 or a refusal out. Pure.

use http::StatusCode;
use longhaul_codec::{SUBPROTOCOL, SUBPROTOCOL_JSON};

use super::{
    credentials,
    token::{Identity, TokenError, Verifier},
};
use crate::{
    limits::RETRY_KEYS_S,
    websocket::{Refusal, upgrade},
};

/// The endpoint of vehicles and dashboards.
pub const ENDPOINT: &str = "/v1";
/// The endpoint that sends every message back; in development only.
pub const ECHO_ENDPOINT: &str = "/echo";

/// What a decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Admission<'a> {
    /// Checks tokens.
    pub verifier: &'a Verifier,
    /// Seconds since the Unix epoch.
    pub unix_s: u64,
    /// Whether the echo endpoint is served.
    pub echo: bool,
}

/// A client that may come in.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// Who it is; `None` at the echo endpoint.
    pub identity: Option<Identity>,
    /// Whether it speaks `longhaul.v1.json`.
    pub json: bool,
    /// The 101 for the wire.
    pub response: Vec<u8>,
}

impl Admission<'_> {
    /// Decides on one request.
    ///
    /// # Errors
    /// The HTTP answer, with what was wrong and what to do.
    pub fn decide(&self, request: &upgrade::Request) -> Result<Admitted, Refusal> {
        match request.uri().path() {
            ENDPOINT => {}
            ECHO_ENDPOINT if self.echo => {
                let response = upgrade::accept(request, None)?;
                return Ok(Admitted {
                    identity: None,
                    json: false,
                    response,
                });
            }
            path => {
                let says = format!(
                    "There is nothing at {path:?}; vehicles and dashboards connect to {ENDPOINT}."
                );
                return Err(Refusal::new(StatusCode::NOT_FOUND, says));
            }
        }
        let presented = credentials::present(request)
            .map_err(|error| Refusal::unauthorized(error.to_string()))?;
        let identity = self
            .verifier
            .verify(&presented.token, self.unix_s)
            .map_err(|error| match error {
                TokenError::KeysPending => Refusal::unavailable(error.to_string(), RETRY_KEYS_S),
                TokenError::Operator => Refusal::new(StatusCode::FORBIDDEN, error.to_string()),
                error => Refusal::unauthorized(error.to_string()),
            })?;
        let Some(subprotocol) = upgrade::negotiate(request, &[SUBPROTOCOL, SUBPROTOCOL_JSON])
        else {
            let says = format!(
                "Offer a subprotocol: Sec-WebSocket-Protocol: {SUBPROTOCOL} (FlatBuffers) or {SUBPROTOCOL_JSON} (JSON)."
            );
            return Err(Refusal::new(StatusCode::BAD_REQUEST, says));
        };
        let response = upgrade::accept(request, Some(subprotocol))?;
        Ok(Admitted {
            identity: Some(identity),
            json: subprotocol == SUBPROTOCOL_JSON,
            response,
        })
    }
}
