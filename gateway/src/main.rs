//! longhaul-gateway
mod config;
mod limits;
fn main() { print!("{}", config::template()); }
