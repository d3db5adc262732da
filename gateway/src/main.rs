//! longhaul-gateway
mod config;
mod limits;
mod metrics;
mod session;
fn main() {
    print!("{}", config::template());
}
