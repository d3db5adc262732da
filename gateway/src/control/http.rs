//! Connections of the control plane: HTTP/1.1, bounded in number, in header size and in time.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use super::admin::Peer;
use crate::limits::{
    CONTROL_CONNECTIONS_MAX, CONTROL_HEADER_BYTES_MAX, CONTROL_HEADER_TIMEOUT, CONTROL_STOP_TIMEOUT,
};

/// Serves until `stopped` resolves, then lets answers under way finish for a bounded time.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    mut stopped: oneshot::Receiver<()>,
) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONTROL_CONNECTIONS_MAX));
    loop {
        let (stream, peer, place) = tokio::select! {
            // Resolves when the handle is dropped, too.
            _ = &mut stopped => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(CONTROL_HEADER_TIMEOUT)
            .max_buf_size(CONTROL_HEADER_BYTES_MAX)
            .serve_connection(
                TokioIo::new(stream),
                TowerToHyperService::new(router.clone().layer(Extension(Peer(peer.ip())))),
            );
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a control connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    if timeout(CONTROL_STOP_TIMEOUT, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("control connections were cut off");
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
    /// Out of descriptors, for example: accept would fail again at once.
    const PAUSE: Duration = Duration::from_millis(100);
    // Nobody closes the semaphore, so there always is a permit.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, place),
            Err(error) => {
                tracing::warn!(%error, "the control plane could not accept a connection");
                sleep(PAUSE).await;
            }
        }
    }
}
