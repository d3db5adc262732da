//! longhaul-bench
fn main() {}
