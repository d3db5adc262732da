//! longhaul-gateway
mod config;
mod limits;
mod session;
fn main() {
    print!("{}", config::template());
}
