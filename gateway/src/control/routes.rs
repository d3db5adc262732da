//! The endpoints of the control plane.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
#[cfg(debug_assertions)]
use axum::extract::Path;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::time::timeout;

use super::health::Unwell;
use super::{ControlState, DrainOrder, admin};
use crate::audit;
use crate::config::rules::{short_text, websocket_url};
use crate::limits::{CONTROL_BODY_BYTES_MAX, CONTROL_REQUEST_TIMEOUT};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const JSON: &str = "application/json";

/// Every endpoint, answered within a bounded time.
pub(super) fn router(state: Arc<ControlState>) -> Router {
    with_faults(Router::new())
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/drain", post(drain))
        .merge(admin::router(&state))
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(CONTROL_BODY_BYTES_MAX))
        .layer(from_fn(within_time))
        .with_state(state)
}

#[cfg(debug_assertions)]
fn with_faults(router: Router<Arc<ControlState>>) -> Router<Arc<ControlState>> {
    let panic = async |State(state): State<Arc<ControlState>>, Path(shard): Path<usize>| {
        if (state.panic)(shard) {
            StatusCode::ACCEPTED
        } else {
            StatusCode::NOT_FOUND
        }
    };
    router.route("/debug/panic/{shard}", post(panic))
}

#[cfg(not(debug_assertions))]
fn with_faults(router: Router<Arc<ControlState>>) -> Router<Arc<ControlState>> {
    router
}

/// 202: this node goes away, as on SIGTERM. The body may say where clients are to go, and why.
///
/// A web page that a browser on this machine shows can send a POST without asking: it says where it is from, or cannot
/// say that its body is JSON.
async fn drain(State(state): State<Arc<ControlState>>, request: Request) -> Response {
    let now_ms = audit::unix_ms();
    let mut act = admin::of_call(&request, now_ms);
    let (parts, body) = request.into_parts();
    let drained = async {
        if state.drain_needs_token || parts.headers.contains_key(AUTHORIZATION) {
            let admitted =
                admin::admit(&state, &parts.method, &parts.headers, now_ms / 1_000).await;
            let caller = admitted.map_err(|(error, operator)| {
                act.who = operator.as_deref().map(admin::who).unwrap_or_default();
                error.into_response()
            })?;
            act.who = admin::who(&caller.0);
            caller.over_node().map_err(IntoResponse::into_response)?;
        }
        let body = Bytes::from_request(Request::from_parts(parts.clone(), body), &())
            .await
            .map_err(IntoResponse::into_response)?;
        Ok(drain_as_asked(&state, &parts.headers, &body))
    };
    let response = drained.await.unwrap_or_else(|refused: Response| refused);
    act.status = response.status().as_u16();
    state.admin.audit.record(act);
    response
}

fn drain_as_asked(state: &ControlState, headers: &HeaderMap, body: &Bytes) -> Response {
    if headers.contains_key(ORIGIN) {
        return (StatusCode::FORBIDDEN, "not for web pages\n").into_response();
    }
    let is_json = headers.get(CONTENT_TYPE).is_some_and(|kind| kind == JSON);
    if !body.is_empty() && !is_json {
        let says = "a body needs the header Content-Type: application/json\n";
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, says).into_response();
    }
    let order = if body.is_empty() {
        Ok(DrainOrder::default())
    } else {
        serde_json::from_slice(body).map_err(|error| error.to_string())
    };
    let order = order.and_then(|order: DrainOrder| {
        if let Some(alternative) = &order.alternative {
            websocket_url(alternative)?;
        }
        if let Some(reason) = &order.reason {
            short_text(reason)?;
        }
        Ok(order)
    });
    match order {
        Err(wrong) => {
            let says = format!(
                "the body is to be empty, or like {{\"alternative\": \"wss://HOST/v1\", \"reason\": \"TEXT\"}}: {wrong}\n"
            );
            (StatusCode::BAD_REQUEST, says).into_response()
        }
        Ok(order) => {
            if (state.drain)(order) {
                (StatusCode::ACCEPTED, "the node drains\n").into_response()
            } else {
                (StatusCode::CONFLICT, "the node is going away already\n").into_response()
            }
        }
    }
}

/// 200 while every shard reports; 503 tells a supervisor to restart the process.
async fn healthz(State(state): State<Arc<ControlState>>) -> Response {
    report(&state, "alive", state.health.alive(Instant::now()))
}

/// 200 while clients should be sent here; 503 tells a load balancer to send them elsewhere.
async fn readyz(State(state): State<Arc<ControlState>>) -> Response {
    report(&state, "ready", state.health.ready(Instant::now()))
}

async fn metrics(State(state): State<Arc<ControlState>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &state.registry) {
        Ok(()) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be encoded");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "the metrics could not be encoded\n",
            )
                .into_response()
        }
    }
}

async fn not_found() -> (StatusCode, &'static str) {
    (
        StatusCode::NOT_FOUND,
        "there are /healthz, /readyz, /metrics and, by POST, /drain; for operators, calls below /admin\n",
    )
}

async fn within_time(request: Request, next: Next) -> Response {
    match timeout(CONTROL_REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the answer took too long\n",
        )
            .into_response(),
    }
}

fn report(state: &ControlState, what: &str, answer: Result<(), Unwell>) -> Response {
    let (status, reason) = match answer {
        Ok(()) => (StatusCode::OK, None),
        Err(unwell) => (StatusCode::SERVICE_UNAVAILABLE, Some(unwell.to_string())),
    };
    let mut body =
        json!({ what: reason.is_none(), "node": state.node, "version": env!("CARGO_PKG_VERSION") });
    if let Some(reason) = reason {
        body["reason"] = reason.into();
    }
    (status, [(CONTENT_TYPE, JSON)], format!("{body}\n")).into_response()
}
