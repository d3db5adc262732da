//! A dashboard that hears every event under a consumer's name, and comes back whenever the gateway is gone.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use longhaul_codec::{
    Encoder, Error, ErrorCode, Event, EventAck, Message, ResumePoint, SUBPROTOCOL, Subscribe,
    decode,
};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// How long it waits before it tries again.
const AGAIN: Duration = Duration::from_millis(20);
/// Events that it acknowledges together.
const ACK_EVERY: u64 = 7;

/// What it has heard.
#[derive(Debug, Default)]
pub struct Heard {
    /// Payloads of each vehicle's events, in order; what came again only once.
    pub texts: HashMap<String, Vec<String>>,
    /// How many came again.
    pub again: usize,
    /// Connections.
    pub connections: usize,
    sequence: u64,
}

impl Heard {
    fn note(&mut self, event: Event, names: &HashMap<u32, String>) -> Result<(), Ended> {
        assert!(event.sequence <= self.sequence + 1, "a gap: {event:?}");
        if event.sequence <= self.sequence {
            self.again += 1;
            return Ok(());
        }
        self.sequence = event.sequence;
        let name = names.get(&event.vehicle).expect("a name comes first");
        let text = String::from_utf8(event.payload)?;
        self.texts.entry(name.clone()).or_default().push(text);
        Ok(())
    }
}

/// A running listener. It ends with this value.
pub struct Listener {
    heard: Arc<Mutex<Heard>>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Hears everything from the beginning of the log.
    pub fn start(listen: SocketAddr, token: String) -> Listener {
        let heard = Arc::<Mutex<Heard>>::default();
        let task = tokio::spawn({
            let heard = Arc::clone(&heard);
            async move {
                loop {
                    // Whatever ends a connection, the next one follows.
                    let _ = listen_once(listen, &token, &heard).await;
                    tokio::time::sleep(AGAIN).await;
                }
            }
        });
        Listener { heard, task }
    }

    /// What it has heard so far.
    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        assert!(!self.task.is_finished(), "what it heard was wrong");
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Ended = Box<dyn std::error::Error + Send + Sync>;

async fn listen_once(listen: SocketAddr, token: &str, heard: &Mutex<Heard>) -> Result<(), Ended> {
    let mut request = format!("ws://{listen}/v1").into_client_request()?;
    let bearer = format!("Bearer {}", token.trim());
    let headers = request.headers_mut();
    headers.insert("Authorization", bearer.parse()?);
    headers.insert("Sec-WebSocket-Protocol", SUBPROTOCOL.parse()?);
    let tcp = TcpStream::connect(listen).await?;
    let (mut socket, _) = tokio_tungstenite::client_async(request, tcp).await?;
    let mut encoder = Encoder::new();
    let mut frame = |message: Message| Frame::binary(encoder.message(&message).payload().to_vec());
    let wish = Subscribe {
        request: 1,
        whole_fleet: true,
        topics: vec!["events".to_owned()],
        consumer: Some("listener".to_owned()),
        resume: Some(ResumePoint::default()),
        ..Subscribe::default()
    };
    socket.send(frame(wish.into())).await?;
    heard
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .connections += 1;
    let mut names = HashMap::new();
    while let Some(received) = socket.next().await {
        let Frame::Binary(bytes) = received? else {
            continue;
        };
        match Message::from_ref(decode(&bytes)?) {
            Message::Names(new) => names.extend(new.vehicles.into_iter().zip(new.ids)),
            Message::Event(event) => {
                let (epoch, sequence) = (event.epoch, event.sequence);
                heard
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .note(event, &names)?;
                let is_due = sequence % ACK_EVERY == 0;
                if is_due {
                    socket
                        .send(frame(EventAck { epoch, sequence }.into()))
                        .await?;
                }
            }
            Message::Error(Error {
                code: ErrorCode::NotDurable,
                ..
            }) => return Ok(()),
            Message::Error(error) => panic!("{error:?}"),
            _ => {}
        }
    }
    Ok(())
}
