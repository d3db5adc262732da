//! A dashboard that watches the whole fleet, and notes positions and events.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use longhaul_codec::{
    CommandResult, Encoder, Event, EventAck, Fix, Message, PresenceState, ResumePoint, SUBPROTOCOL,
    Subscribe, decode,
};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::Gateway;

/// How often events are acknowledged.
const ACK_EVERY: Duration = Duration::from_millis(20);

/// What a dashboard has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Events in the order in which they came, redelivered ones only once; with their vehicles.
    pub events: Vec<(String, Event)>,
    /// The last fix of each vehicle.
    pub fixes: HashMap<String, Fix>,
    /// How many fixes came.
    pub fixes_count: usize,
    /// The last state of each vehicle.
    pub presence: HashMap<String, PresenceState>,
    /// Each change to offline.
    pub went_offline: Vec<String>,
    /// What became of commands.
    pub results: Vec<CommandResult>,
    /// What the gateway complained about.
    pub errors: Vec<String>,
    /// It has subscribed.
    pub acked: bool,
    names: HashMap<u32, String>,
    last_sequence: u64,
}

impl Seen {
    /// The vehicle's own numbers of its events.
    pub fn ids_of(&self, vehicle: &str) -> impl Iterator<Item = u64> {
        let of = self.events.iter().filter(move |(id, _)| id == vehicle);
        of.map(|(_, event)| event.message_id)
    }

    /// Payloads of the events of a vehicle, as text.
    pub fn texts_of(&self, vehicle: &str) -> Vec<String> {
        let of = self.events.iter().filter(|(id, _)| id == vehicle);
        of.map(|(_, event)| String::from_utf8_lossy(&event.payload).into_owned())
            .collect()
    }
}

/// A running dashboard. It ends with this value.
pub struct Dashboard {
    seen: Arc<Mutex<Seen>>,
    to_send: mpsc::UnboundedSender<Message>,
    task: JoinHandle<()>,
}

impl Dashboard {
    /// Watches these topics of the whole fleet, events at least once.
    pub async fn open(gateway: &Gateway, user: &str, topics: &[&str]) -> Dashboard {
        let token = gateway.token("dashboard", user, "1h", &[]);
        Dashboard::open_at(gateway, &token, topics, None).await
    }

    /// May send commands, and sees their results.
    pub async fn commander(gateway: &Gateway, user: &str) -> Dashboard {
        let token = gateway.token("dashboard", user, "1h", &["--may", "command"]);
        Dashboard::open_at(gateway, &token, &["presence"], None).await
    }

    /// Sees every event that the gateway has kept, from the first on.
    pub async fn replay(gateway: &Gateway, user: &str) -> Dashboard {
        let token = gateway.token("dashboard", user, "1h", &[]);
        Dashboard::open_at(gateway, &token, &["events"], Some(0)).await
    }

    async fn open_at(
        gateway: &Gateway,
        token: &str,
        topics: &[&str],
        behind: Option<u64>,
    ) -> Dashboard {
        let mut request = gateway.url().into_client_request().expect("a URL");
        let bearer = format!("Bearer {}", token.trim());
        let headers = request.headers_mut();
        headers.insert("Authorization", bearer.parse().expect("plain"));
        headers.insert(
            "Sec-WebSocket-Protocol",
            SUBPROTOCOL.parse().expect("plain"),
        );
        let tcp = TcpStream::connect(gateway.listen())
            .await
            .expect("it listens");
        let config = WebSocketConfig::default().max_message_size(None);
        let (mut socket, _) =
            tokio_tungstenite::client_async_with_config(request, tcp, Some(config))
                .await
                .expect("it is let in");
        let epoch = loop {
            match socket.next().await {
                Some(Ok(Frame::Binary(bytes))) => {
                    if let Message::Welcome(welcome) =
                        Message::from_ref(decode(&bytes).expect("the schema"))
                    {
                        break welcome.epoch;
                    }
                }
                other => panic!("no Welcome: {other:?}"),
            }
        };
        let wish = Subscribe {
            resume: behind.map(|sequence| ResumePoint { epoch, sequence }),
            request: 1,
            whole_fleet: true,
            topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
            qos: u8::from(topics.contains(&"events")),
            ..Subscribe::default()
        };
        send(&mut socket, wish.into()).await;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (to_send, asked) = mpsc::unbounded_channel();
        let task = tokio::spawn(watch(socket, Arc::clone(&seen), asked));
        let dashboard = Dashboard {
            seen,
            to_send,
            task,
        };
        super::eventually("subscribed", || {
            let seen = dashboard.seen();
            assert!(seen.errors.is_empty(), "{:?}", seen.errors);
            seen.acked
        })
        .await;
        dashboard
    }

    /// Sends a message.
    pub fn send(&self, message: impl Into<Message>) {
        self.to_send.send(message.into()).expect("it runs");
    }

    /// What it has seen so far.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn send(socket: &mut WebSocketStream<TcpStream>, message: Message) {
    let payload = Encoder::new().message(&message).payload().to_vec();
    // A gateway that a test has ended takes nothing.
    let _ = socket.send(Frame::binary(payload)).await;
}

async fn watch(
    mut socket: WebSocketStream<TcpStream>,
    seen: Arc<Mutex<Seen>>,
    mut asked: mpsc::UnboundedReceiver<Message>,
) {
    // Acknowledgements are cumulative, and one for each event would exceed the rate.
    let mut acks = tokio::time::interval(ACK_EVERY);
    let mut to_ack = None;
    loop {
        let frame = tokio::select! {
            frame = socket.next() => frame,
            Some(message) = asked.recv() => {
                send(&mut socket, message).await;
                continue;
            }
            _ = acks.tick(), if to_ack.is_some() => {
                if let Some(ack) = to_ack.take() {
                    send(&mut socket, Message::EventAck(ack)).await;
                }
                continue;
            }
        };
        match frame {
            Some(Ok(Frame::Binary(bytes))) => {
                let message = Message::from_ref(decode(&bytes).expect("the schema"));
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                to_ack = seen.note(message).or(to_ack);
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return,
        }
    }
}

impl Seen {
    fn note(&mut self, message: Message) -> Option<EventAck> {
        match message {
            Message::Ack(_) => self.acked = true,
            Message::Names(names) => {
                self.names.extend(names.vehicles.into_iter().zip(names.ids));
            }
            Message::Positions(positions) => {
                for fix in positions.fixes {
                    self.fixes_count += 1;
                    self.fixes.insert(self.name(fix.vehicle), fix);
                }
            }
            Message::Presence(presence) => {
                for change in presence.changes {
                    let name = self.name(change.vehicle);
                    if change.state == PresenceState::Offline {
                        self.went_offline.push(name.clone());
                    }
                    self.presence.insert(name, change.state);
                }
            }
            Message::Event(event) => {
                let (epoch, sequence) = (event.epoch, event.sequence);
                let vehicle = event.vehicle_id.clone();
                let vehicle = vehicle.unwrap_or_else(|| self.name(event.vehicle));
                if sequence == 0 {
                    self.events.push((vehicle, event));
                    return None;
                }
                if sequence > self.last_sequence {
                    self.last_sequence = sequence;
                    self.events.push((vehicle, event));
                }
                return Some(EventAck { epoch, sequence });
            }
            Message::CommandResult(result) => self.results.push(result),
            Message::Error(error) => self.errors.push(format!("{error:?}")),
            _ => {}
        }
        None
    }

    fn name(&self, vehicle: u32) -> String {
        let name = self.names.get(&vehicle);
        name.cloned().unwrap_or_else(|| format!("#{vehicle}"))
    }
}
