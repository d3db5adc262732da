//! A WebSocket client: tungstenite and the codec, one message at a time.

use std::collections::HashMap;
use std::net::TcpStream;

use longhaul_codec::{
    Ack, AckKind, Encoder, Error, ErrorCode, Fix, Message, Position, PresenceState, SUBPROTOCOL,
    SUBPROTOCOL_JSON, Subscribe, Unsubscribe, Welcome, decode, json,
};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message as Frame, WebSocket};

use super::gateway::Gateway;
use super::http::dial;

/// A connected client, past its Welcome.
pub struct Client {
    socket: WebSocket<TcpStream>,
    json: bool,
    encoder: Encoder,
    names: HashMap<u32, String>,
    welcome: Welcome,
}

impl Client {
    /// Connects with the binary subprotocol.
    pub fn connect(gateway: &Gateway, token: &str) -> Client {
        Client::open(gateway, token, false)
    }

    /// Connects with the JSON subprotocol.
    pub fn connect_json(gateway: &Gateway, token: &str) -> Client {
        Client::open(gateway, token, true)
    }

    /// A vehicle of the tests' fleet.
    pub fn vehicle(gateway: &Gateway, id: &str) -> Client {
        Client::connect(gateway, &gateway.vehicle_token(id))
    }

    /// A dashboard of the tests' fleet.
    pub fn dashboard(gateway: &Gateway, user: &str) -> Client {
        Client::connect(gateway, &gateway.dashboard_token(user))
    }

    fn open(gateway: &Gateway, token: &str, json: bool) -> Client {
        let mut request = gateway
            .url()
            .into_client_request()
            .expect("the URL is good");
        let subprotocol = if json { SUBPROTOCOL_JSON } else { SUBPROTOCOL };
        let authorization = format!("Bearer {token}");
        let headers = request.headers_mut();
        headers.insert(
            "Authorization",
            HeaderValue::from_str(&authorization).expect("a token is plain"),
        );
        headers.insert(
            "Sec-WebSocket-Protocol",
            HeaderValue::from_static(subprotocol),
        );
        let (socket, response) = tungstenite::client(request, dial(gateway.listen()))
            .unwrap_or_else(|error| panic!("no upgrade: {error}"));
        assert_eq!(response.headers()["Sec-WebSocket-Protocol"], subprotocol);
        let mut client = Client {
            socket,
            json,
            encoder: Encoder::new(),
            names: HashMap::new(),
            welcome: Welcome::default(),
        };
        match client.next() {
            Message::Welcome(welcome) => client.welcome = welcome,
            other => panic!("the first message is no Welcome: {other:?}"),
        }
        client
    }

    /// What the gateway greeted with.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Sends a message.
    pub fn send(&mut self, message: &Message) {
        let frame = if self.json {
            Frame::text(json::write(message))
        } else {
            Frame::binary(self.encoder.message(message).payload().to_vec())
        };
        self.send_frame(frame);
    }

    /// Sends anything.
    pub fn send_frame(&mut self, frame: Frame) {
        self.socket.send(frame).expect("the gateway takes it");
    }

    /// Reports a position.
    pub fn report(&mut self, fix: Fix) {
        let vehicle_id = None;
        self.send(&Message::Position(Position { fix, vehicle_id }));
    }

    /// Reports a position to a gateway that may have closed.
    pub fn try_report(&mut self, fix: Fix) -> Result<(), Box<tungstenite::Error>> {
        let vehicle_id = None;
        let message = Message::Position(Position { fix, vehicle_id });
        let payload = self.encoder.message(&message).payload().to_vec();
        self.socket.send(Frame::binary(payload)).map_err(Box::new)
    }

    /// Subscribes, and gives the acknowledgement. What comes in front of it is noted if it is Names, and wrong if not.
    pub fn subscribe(&mut self, subscribe: Subscribe) -> Ack {
        self.ask(AckKind::Subscribe, subscribe.request, subscribe)
    }

    /// Asks for something that is acknowledged; what comes before the acknowledgement must be Names.
    pub fn ask(&mut self, kind: AckKind, id: u64, request: impl Into<Message>) -> Ack {
        self.send(&request.into());
        loop {
            match self.next() {
                Message::Names(_) => {}
                Message::Ack(ack) => {
                    assert_eq!((ack.kind, ack.id), (kind, id));
                    return ack;
                }
                other => panic!("neither Names nor Ack: {other:?}"),
            }
        }
    }

    /// The next message. The names that it gives are noted.
    pub fn next(&mut self) -> Message {
        let message = loop {
            match self.next_frame() {
                Frame::Binary(bytes) if !self.json => {
                    break Message::from_ref(
                        decode(&bytes).expect("the gateway speaks the schema"),
                    );
                }
                Frame::Text(text) if self.json => {
                    break json::parse(&text).expect("the gateway speaks the schema");
                }
                Frame::Ping(_) => {}
                other => panic!("no message of this subprotocol: {other:?}"),
            }
        };
        if let Message::Names(names) = &message {
            let pairs = names.vehicles.iter().copied();
            self.names.extend(pairs.zip(names.ids.iter().cloned()));
        }
        message
    }

    /// The next frame, of whatever kind.
    pub fn next_frame(&mut self) -> Frame {
        self.socket.read().expect("the gateway says something")
    }

    /// The next frame, if one comes before the socket's time-out. Pings are answered.
    pub fn try_read(&mut self) -> Result<Frame, Box<tungstenite::Error>> {
        self.socket.read().map_err(Box::new)
    }

    /// The fixes of the next Positions message, each with its vehicle's id. Names may come first.
    pub fn positions(&mut self) -> Vec<(String, Fix)> {
        loop {
            match self.next() {
                Message::Names(_) => {}
                Message::Positions(positions) => {
                    let fixes = positions.fixes.into_iter();
                    return fixes.map(|fix| (self.name(fix.vehicle), fix)).collect();
                }
                other => panic!("neither Names nor Positions: {other:?}"),
            }
        }
    }

    /// The one fix of the next Positions message.
    pub fn position(&mut self) -> (String, Fix) {
        let mut fixes = self.positions();
        assert_eq!(fixes.len(), 1, "{fixes:?}");
        fixes.remove(0)
    }

    /// The id that this index stands for.
    #[track_caller]
    pub fn name(&self, vehicle: u32) -> String {
        let name = self.names.get(&vehicle);
        name.expect("Names comes before the first position").clone()
    }

    /// The next message, which is an Error with this code.
    #[track_caller]
    pub fn error(&mut self, code: ErrorCode) -> Error {
        match self.next() {
            Message::Error(error) if error.code == code => error,
            other => panic!("no error {code:?}: {other:?}"),
        }
    }

    /// Reads until everything is answered that was sent so far: a ping's answer comes after what came before it.
    /// Gives the messages on the way.
    pub fn drain(&mut self) -> Vec<Message> {
        self.send_frame(Frame::Ping(b"drain".as_slice().into()));
        let mut messages = Vec::new();
        loop {
            match self.next_frame() {
                Frame::Pong(payload) => {
                    assert_eq!(payload.as_ref(), b"drain");
                    return messages;
                }
                Frame::Binary(bytes) => {
                    messages.push(Message::from_ref(decode(&bytes).expect("the schema")))
                }
                Frame::Text(text) => messages.push(json::parse(&text).expect("the schema")),
                _ => {}
            }
        }
    }

    /// The next message, which is Presence. Names may come first. Each change with its vehicle's id.
    #[track_caller]
    pub fn presence(&mut self) -> Vec<(String, PresenceState, u64)> {
        loop {
            match self.next() {
                Message::Names(_) => {}
                Message::Presence(presence) => {
                    return presence
                        .changes
                        .into_iter()
                        .map(|change| (self.name(change.vehicle), change.state, change.since_ms))
                        .collect();
                }
                other => panic!("neither Names nor Presence: {other:?}"),
            }
        }
    }

    /// The socket, for what clients do not do.
    pub fn socket(&self) -> &TcpStream {
        self.socket.get_ref()
    }

    /// Reads up to the gateway's close frame, and gives its code and reason.
    pub fn closed(&mut self) -> (u16, String) {
        loop {
            if let Frame::Close(close) = self.next_frame() {
                let close = close.expect("the gateway gives a code");
                return (close.code.into(), close.reason.to_string());
            }
        }
    }

    /// Closes, and waits until the gateway has closed too.
    pub fn close(mut self) {
        self.socket.close(None).expect("it was open");
        while self.socket.read().is_ok() {}
    }

    /// Closes with a code, and gives the gateway's.
    pub fn close_with(mut self, code: u16) -> u16 {
        let code = CloseCode::from(code);
        let reason = "".into();
        self.socket
            .close(Some(tungstenite::protocol::CloseFrame { code, reason }))
            .expect("it was open");
        self.closed().0
    }
}

/// A connection for threads that wait for several things: it reads with a time-out, and expects nothing.
pub struct Wire {
    socket: WebSocket<TcpStream>,
}

impl Wire {
    /// Connects with the binary subprotocol. Panics if it is not let in.
    #[track_caller]
    pub fn open(listen: std::net::SocketAddr, token: &str) -> Wire {
        let mut request = format!("ws://{listen}/v1")
            .into_client_request()
            .expect("the URL is good");
        let authorization = format!("Bearer {token}");
        let headers = request.headers_mut();
        let authorization = HeaderValue::from_str(&authorization).expect("a token is plain");
        headers.insert("Authorization", authorization);
        let subprotocol = HeaderValue::from_static(SUBPROTOCOL);
        headers.insert("Sec-WebSocket-Protocol", subprotocol);
        let (socket, _) = tungstenite::client(request, dial(listen))
            .unwrap_or_else(|error| panic!("no upgrade: {error}"));
        Wire { socket }
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: Frame) -> Result<(), Box<tungstenite::Error>> {
        self.socket.send(frame).map_err(Box::new)
    }

    /// Sends a message.
    pub fn ask(&mut self, message: impl Into<Message>) {
        let payload = Encoder::new().message(&message.into()).payload().to_vec();
        self.send(Frame::binary(payload)).expect("it is taken");
    }

    /// The next message, if one comes in time. A close frame, and anything else that ends the connection, is a panic.
    #[track_caller]
    pub fn try_next(&mut self, within: std::time::Duration) -> Option<Message> {
        let socket = self.socket.get_ref();
        socket
            .set_read_timeout(Some(within))
            .expect("a socket takes it");
        match self.socket.read() {
            Ok(Frame::Binary(bytes)) => {
                Some(Message::from_ref(decode(&bytes).expect("the schema")))
            }
            Ok(Frame::Ping(_) | Frame::Pong(_)) => None,
            Err(tungstenite::Error::Io(error))
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                None
            }
            other => panic!("the connection has ended: {other:?}"),
        }
    }
}

/// A fix that nothing else in a test resembles: every field follows from `n`, and a greater `n` is later.
pub fn fix(n: u32) -> Fix {
    // 2026-01-01, in whole seconds from there: in the past, so that no clock refuses it.
    Fix {
        time_ms: 1_767_225_600_000 - 1_000_000_000 + u64::from(n) * 1_000,
        vehicle: 0,
        lat_e7: -525_200_000 + n as i32,
        lon_e7: 1_340_000_000 - n as i32,
        speed_cm_s: (n % 60_000) as u16,
        heading_cdeg: (n % 36_000) as u16,
    }
}

/// `fix` as the gateway passes it on.
pub fn of(vehicle: &Client, fix: Fix) -> Fix {
    let vehicle = vehicle.welcome().vehicle;
    Fix { vehicle, ..fix }
}

/// A Subscribe to these vehicles.
pub fn watch(request: u64, vehicles: &[&str]) -> Subscribe {
    Subscribe {
        request,
        vehicles: owned(vehicles),
        ..Subscribe::default()
    }
}

/// A Subscribe to the whole fleet.
pub fn watch_all(request: u64) -> Subscribe {
    Subscribe {
        request,
        whole_fleet: true,
        ..Subscribe::default()
    }
}

/// An Unsubscribe from these vehicles.
pub fn unwatch(request: u64, vehicles: &[&str]) -> Unsubscribe {
    Unsubscribe {
        request,
        vehicles: owned(vehicles),
        ..Unsubscribe::default()
    }
}

fn owned(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}
