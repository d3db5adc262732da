//! longhaul-gateway
fn main() {}
