//! The foreign tools, where `scripts/install-tools` puts them.

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> &'static Path {
    let gateway = Path::new(env!("CARGO_MANIFEST_DIR"));
    gateway.parent().expect("the gateway is a folder of it")
}

/// A path in `.tools`, which must be there.
#[track_caller]
pub fn tool(path: &str) -> PathBuf {
    let tool = root().join(".tools").join(path);
    assert!(
        tool.exists(),
        "{} is not there: run scripts/test, which installs it",
        tool.display()
    );
    tool
}

/// A program in `gateway/tests/clients`.
pub fn program(name: &str) -> PathBuf {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    clients.join(name)
}
