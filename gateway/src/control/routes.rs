//! The endpoints of the control plane.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::time::timeout;

use super::ControlState;
use super::health::Unwell;
use crate::limits::CONTROL_REQUEST_TIMEOUT;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const JSON: &str = "application/json";

/// Every endpoint, answered within a bounded time.
pub(super) fn router(state: Arc<ControlState>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .layer(from_fn(within_time))
        .with_state(state)
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
        "there are /healthz, /readyz and /metrics\n",
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
