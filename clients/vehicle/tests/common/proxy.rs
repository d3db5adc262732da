//! A TCP proxy that misbehaves: it cuts, delays, stalls, drops connections and lets nobody in, all from one seed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What happens to one connection.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Nothing, until it is cut.
    Well,
    /// Both ways end after so many bytes from the vehicle, in the middle of a frame.
    CutAfterBytes(u64),
    /// Everything comes later.
    Slow(Duration),
    /// After so many bytes, nothing passes any more, and nobody is told.
    StallAfterBytes(u64),
    /// What the gateway says is swallowed, what the vehicle says is not: acknowledgements are lost.
    Deaf(u64),
    /// Closed before a byte has passed.
    NotLetIn,
}

/// A running proxy. It ends with this value.
pub struct Proxy {
    address: SocketAddr,
    calm: Arc<AtomicBool>,
    connections: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens, and passes on to `target`.
    pub async fn start(target: SocketAddr, seed: u64) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it has one");
        let calm = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn({
            let (calm, connections) = (Arc::clone(&calm), Arc::clone(&connections));
            async move {
                let mut rng = fastrand::Rng::with_seed(seed);
                loop {
                    let Ok((socket, _)) = listener.accept().await else {
                        continue;
                    };
                    connections.fetch_add(1, Ordering::Relaxed);
                    let fate = fate(&mut rng);
                    // Nothing lasts, but what the vehicle has to notice itself.
                    let life = Duration::from_millis(200 + rng.u64(..4_000));
                    tokio::spawn(serve(socket, target, fate, life, Arc::clone(&calm)));
                }
            }
        });
        Proxy {
            address,
            calm,
            connections,
            task,
        }
    }

    /// The WebSocket endpoint behind it.
    pub fn url(&self) -> String {
        format!("ws://{}/v1", self.address)
    }

    /// From now on it behaves; connections that do not are ended.
    pub fn calm(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    /// How many connections there were.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn fate(rng: &mut fastrand::Rng) -> Fate {
    let bytes = 200 + rng.u64(..20_000);
    match rng.u8(..12) {
        0..4 => Fate::CutAfterBytes(bytes),
        4..7 => Fate::Slow(Duration::from_millis(rng.u64(1..200))),
        7 => Fate::StallAfterBytes(bytes),
        8 => Fate::Deaf(500 + rng.u64(..2_000)),
        9 => Fate::NotLetIn,
        _ => Fate::Well,
    }
}

async fn serve(
    vehicle: TcpStream,
    target: SocketAddr,
    fate: Fate,
    life: Duration,
    calm: Arc<AtomicBool>,
) {
    if calm.load(Ordering::Relaxed) {
        return pass(vehicle, target, Fate::Well).await;
    }
    let end = async {
        match fate {
            Fate::StallAfterBytes(_) | Fate::Deaf(_) => {
                while !calm.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            _ => tokio::time::sleep(life).await,
        }
    };
    tokio::select! {
        () = pass(vehicle, target, fate) => {}
        () = end => {}
    }
}

async fn pass(mut vehicle: TcpStream, target: SocketAddr, fate: Fate) {
    if matches!(fate, Fate::NotLetIn) {
        return;
    }
    let Ok(mut gateway) = TcpStream::connect(target).await else {
        return;
    };
    let _ = (vehicle.set_nodelay(true), gateway.set_nodelay(true));
    let (mut from_vehicle, mut to_vehicle) = vehicle.split();
    let (mut from_gateway, mut to_gateway) = gateway.split();
    let (mut up, mut down) = (vec![0; 4_096], vec![0; 4_096]);
    let (mut sent, mut heard) = (0u64, 0u64);
    loop {
        let (read, upwards) = tokio::select! {
            read = from_vehicle.read(&mut up) => (read, true),
            read = from_gateway.read(&mut down) => (read, false),
        };
        let Ok(mut read @ 1..) = read else { return };
        if let Fate::Slow(delay) = fate {
            tokio::time::sleep(delay).await;
        }
        if !upwards {
            heard += read as u64;
            if matches!(fate, Fate::Deaf(bytes) if heard > bytes) {
                continue;
            }
            if to_vehicle.write_all(&down[..read]).await.is_err() {
                return;
            }
            continue;
        }
        sent += read as u64;
        match fate {
            Fate::StallAfterBytes(bytes) if sent > bytes => {
                // Reads nothing more, so that the vehicle's socket fills up as well.
                return std::future::pending().await;
            }
            Fate::CutAfterBytes(bytes) if sent > bytes => {
                read -= (sent - bytes).min(read as u64) as usize;
                let _ = to_gateway.write_all(&up[..read]).await;
                return;
            }
            _ => {}
        }
        if to_gateway.write_all(&up[..read]).await.is_err() {
            return;
        }
    }
}
