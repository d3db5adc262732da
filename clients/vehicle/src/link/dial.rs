//! Opening a connection: name, TCP, TLS, upgrade, Welcome. All of it has one time-out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::header::{AUTHORIZATION, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderValue, Request, Response};
use longhaul_codec::{MessageRef, Role, SUBPROTOCOL, Welcome, decode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message as Frame};

use super::tls;
use crate::session::rules::Ended;
use crate::token::Token;
use crate::{Endpoint, Trust};

/// The longest message that a gateway may send: a command's payload, with room.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// What is written is flushed long before.
const WRITE_BUFFER_BYTES: usize = 128 << 10;
/// How much of a refusal's text is kept.
const BODY_CHARS_MAX: usize = 300;
/// How long one address of several may take to answer.
const ADDRESS_WITHIN: Duration = Duration::from_secs(5);

/// What a WebSocket runs on: TCP, or TLS on it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(super) type Socket = WebSocketStream<Box<dyn Stream>>;

/// A connection that the gateway has welcomed.
pub(crate) struct Link {
    pub(super) sink: SplitSink<Socket, Frame>,
    pub(super) stream: SplitStream<Socket>,
    pub(super) welcome: Welcome,
    /// What it was opened with.
    pub(super) token: Token,
}

/// Opens connections.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    pub(crate) trust: Arc<Trust>,
    pub(crate) within: Duration,
}

impl Dialer {
    /// Opens one.
    pub(super) async fn dial(&self, endpoint: &Endpoint, token: Token) -> Result<Link, Ended> {
        tokio::time::timeout(self.within, self.open(endpoint, token))
            .await
            .unwrap_or_else(|_| {
                Err(Ended::Lost(format!(
                    "{endpoint} did not let in within {:?}",
                    self.within
                )))
            })
    }

    async fn open(&self, endpoint: &Endpoint, token: Token) -> Result<Link, Ended> {
        let stream = self.stream(endpoint).await.map_err(Ended::Lost)?;
        let request = request(endpoint, &token).map_err(Ended::Lost)?;
        let config = WebSocketConfig::default()
            .read_buffer_size(8 << 10)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let (socket, _) =
            tokio_tungstenite::client_async_with_config(request, stream, Some(config))
                .await
                .map_err(|error| refused(endpoint, error))?;
        let (sink, mut stream) = socket.split();
        let welcome = welcome(&mut stream).await?;
        if welcome.role != Role::Vehicle {
            return Err(Ended::NoToken(format!(
                "the token is for a dashboard ({}), not for a vehicle",
                welcome.subject
            )));
        }
        Ok(Link {
            sink,
            stream,
            welcome,
            token,
        })
    }

    async fn stream(&self, endpoint: &Endpoint) -> Result<Box<dyn Stream>, String> {
        let tcp = connect(&endpoint.host, endpoint.port).await?;
        // Small messages, each of which somebody waits for.
        tcp.set_nodelay(true).map_err(|error| error.to_string())?;
        if !endpoint.tls {
            return Ok(Box::new(tcp));
        }
        let trust = Arc::clone(&self.trust);
        let connector = tokio::task::spawn_blocking(move || tls::connector(&trust))
            .await
            .map_err(|error| error.to_string())??;
        let name = ServerName::try_from(endpoint.host.clone())
            .map_err(|_| format!("{} is no name that a certificate has", endpoint.host))?;
        let tls = connector.connect(name, tcp).await;
        Ok(Box::new(tls.map_err(|error| tls::failed(&error))?))
    }
}

/// Tries each address of the name, so that one that is dead does not keep from the others.
async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| format!("the name {host}: {error}"))?
        .collect();
    let mut failed = format!("the name {host} has no address");
    for address in addresses {
        match tokio::time::timeout(ADDRESS_WITHIN, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failed = format!("{address}: {error}"),
            Err(_) => failed = format!("{address} does not answer"),
        }
    }
    Err(failed)
}

fn request(endpoint: &Endpoint, token: &Token) -> Result<Request<()>, String> {
    let mut request = endpoint
        .uri
        .clone()
        .into_client_request()
        .map_err(|error| error.to_string())?;
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.secret()))
        .map_err(|_| "the token cannot stand in a header".to_owned())?;
    bearer.set_sensitive(true);
    let headers = request.headers_mut();
    headers.insert(AUTHORIZATION, bearer);
    headers.insert(
        SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static(SUBPROTOCOL),
    );
    Ok(request)
}

/// Why there was no upgrade.
fn refused(endpoint: &Endpoint, error: WsError) -> Ended {
    match error {
        WsError::Http(response) => answer(&response),
        other => Ended::Lost(format!("{endpoint}: {other}")),
    }
}

fn answer(response: &Response<Option<Vec<u8>>>) -> Ended {
    let body = response.body().as_deref().unwrap_or_default();
    let retry_after = response.headers().get(RETRY_AFTER);
    Ended::Refused {
        status: response.status().as_u16(),
        // A date, which HTTP allows as well, is nothing that a gateway sends: backoff does.
        retry_after: retry_after
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs),
        body: one_line(&String::from_utf8_lossy(body)),
    }
}

async fn welcome(stream: &mut SplitStream<Socket>) -> Result<Welcome, Ended> {
    loop {
        match stream.next().await {
            Some(Ok(Frame::Binary(bytes))) => {
                return match decode(&bytes) {
                    Ok(MessageRef::Welcome(welcome)) => Ok(welcome.into()),
                    Ok(other) => Err(Ended::Lost(format!(
                        "the first message is {}, and not Welcome: is that a Longhaul gateway?",
                        other.name()
                    ))),
                    Err(error) => Err(Ended::Lost(format!("the first message: {error}"))),
                };
            }
            Some(Ok(Frame::Close(close))) => return Err(closed(close)),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(Ended::Lost(error.to_string())),
            None => return Err(Ended::Lost("it ended before the Welcome".to_owned())),
        }
    }
}

/// The end by a close frame.
pub(super) fn closed(close: Option<tokio_tungstenite::tungstenite::protocol::CloseFrame>) -> Ended {
    match close {
        Some(close) => Ended::Closed {
            code: close.code.into(),
            reason: one_line(&close.reason),
        },
        None => Ended::Closed {
            code: 1005,
            reason: "no reason was given".to_owned(),
        },
    }
}

/// A text from the other side, fit for one line of a log.
fn one_line(text: &str) -> String {
    let text = text.trim().chars().take(BODY_CHARS_MAX);
    text.map(|character| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    })
    .collect()
}

/// Says goodbye, and reads on for a moment: what was on its way still counts.
pub(super) async fn close(mut link: Link, within: Duration, mut on_frame: impl FnMut(&[u8])) {
    let goodbye = async {
        if link.sink.send(Frame::Close(None)).await.is_err() {
            return;
        }
        while let Some(Ok(frame)) = link.stream.next().await {
            if let Frame::Binary(bytes) = frame {
                on_frame(&bytes);
            }
        }
    };
    // Without an answer the connection is dropped.
    let _ = tokio::time::timeout(within, goodbye).await;
}
