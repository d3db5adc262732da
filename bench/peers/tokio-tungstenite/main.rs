//! A plain server on tokio and tokio-tungstenite: every binary message of a vehicle goes to the dashboards that watch it.
//!
//!     longhaul-peer-tungstenite PORT
//!
//! One thread, since it is compared on one core; a task per connection, a channel per dashboard. The protocol is in
//! `bench/src/dialect/plain.rs`.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};

/// What one connection reads at once: its default of 128 KiB, allocated per connection, suits file transfers.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// Messages that wait for a dashboard are written together, as long as they fit.
const WRITE_BUFFER_BYTES: usize = 64 << 10;
/// Of one turn of a dashboard's task, so that others get theirs.
const MESSAGES_PER_FLUSH_MAX: usize = 1_024;

/// The first message of every client.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Hello {
    Vehicle(String),
    Watch(Wish),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Wish {
    Some(Vec<String>),
    /// The word "all".
    All(String),
}

/// Number of the dashboard, and how to reach it.
type Watcher = (u64, UnboundedSender<Bytes>);
type Watchers = Rc<RefCell<Vec<Watcher>>>;

/// Who watches what.
#[derive(Default)]
struct Fleet {
    of_vehicle: RefCell<HashMap<String, Watchers>>,
    of_all: Watchers,
    dashboards: Cell<u64>,
}

impl Fleet {
    fn watchers(&self, vehicle: String) -> Watchers {
        let mut known = self.of_vehicle.borrow_mut();
        Rc::clone(known.entry(vehicle).or_default())
    }
}

fn main() -> anyhow::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok());
    let Some(port) = port else {
        bail!("usage: longhaul-peer-tungstenite PORT");
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    LocalSet::new().block_on(&runtime, serve(port))
}

async fn serve(port: u16) -> anyhow::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listening on {address}"))?;
    let fleet = Rc::new(Fleet::default());
    loop {
        let (stream, _) = listener.accept().await?;
        let fleet = Rc::clone(&fleet);
        tokio::task::spawn_local(async move {
            if let Err(error) = attend(stream, &fleet).await {
                eprintln!("{error:#}");
            }
        });
    }
}

async fn attend(stream: TcpStream, fleet: &Fleet) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES);
    let mut socket = accept_async_with_config(stream, Some(config)).await?;
    let Some(first) = socket.next().await else {
        return Ok(());
    };
    let hello: Hello = serde_json::from_str(first?.to_text()?).context("the first message")?;
    match hello {
        Hello::Vehicle(id) => vehicle(socket, fleet, id).await,
        Hello::Watch(Wish::Some(ids)) => {
            let watched = ids.into_iter().map(|id| fleet.watchers(id)).collect();
            dashboard(socket, fleet, watched).await
        }
        Hello::Watch(Wish::All(word)) if word == "all" => {
            dashboard(socket, fleet, vec![Rc::clone(&fleet.of_all)]).await
        }
        Hello::Watch(Wish::All(word)) => bail!("watch is {word:?}, not a list or \"all\""),
    }
}

fn ready() -> Message {
    Message::Text(Utf8Bytes::from_static("ready"))
}

async fn vehicle(
    mut socket: WebSocketStream<TcpStream>,
    fleet: &Fleet,
    id: String,
) -> anyhow::Result<()> {
    let mine = fleet.watchers(id);
    socket.send(ready()).await?;
    while let Some(message) = socket.next().await {
        // A vehicle that is gone needs no word about it.
        let Ok(message) = message else { break };
        if let Message::Binary(report) = message {
            for watchers in [&mine, &fleet.of_all] {
                for (_, dashboard) in watchers.borrow().iter() {
                    // One that is going is taken out of the list soon.
                    let _ = dashboard.send(report.clone());
                }
            }
        }
    }
    Ok(())
}

async fn dashboard(
    mut socket: WebSocketStream<TcpStream>,
    fleet: &Fleet,
    watched: Vec<Watchers>,
) -> anyhow::Result<()> {
    let number = fleet.dashboards.get();
    fleet.dashboards.set(number + 1);
    let (sender, mut reports) = unbounded_channel();
    for watchers in &watched {
        watchers.borrow_mut().push((number, sender.clone()));
    }
    let mut result = socket.send(ready()).await;
    let mut waiting = Vec::with_capacity(MESSAGES_PER_FLUSH_MAX);
    while result.is_ok() {
        tokio::select! {
            _ = reports.recv_many(&mut waiting, MESSAGES_PER_FLUSH_MAX) => {
                for report in waiting.drain(..) {
                    result = socket.feed(Message::Binary(report)).await;
                    if result.is_err() {
                        break;
                    }
                }
                if result.is_ok() {
                    result = socket.flush().await;
                }
            }
            message = socket.next() => match message {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            },
        }
    }
    for watchers in &watched {
        watchers.borrow_mut().retain(|(other, _)| *other != number);
    }
    // A dashboard that is gone needs no word about it.
    Ok(())
}
