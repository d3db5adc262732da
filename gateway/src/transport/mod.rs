//! What lies between a socket's bytes and the WebSocket: bytes in, bytes out.
//!
//! - `transport/proxy.rs`: what a load balancer says in front of them

pub mod proxy;
