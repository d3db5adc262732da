//! The I/O: opening connections, and talking on one. What to do is decided in [`crate::session`].
//!
//! | file | what |
//! |---|---|
//! | `dial` | name, TCP, TLS, upgrade, Welcome: a [`dial::Link`] or the reason why not |
//! | `tls` | whom `wss://` trusts |
//! | `driver` | from one connection to the next |
//! | `talk` | one connection: what comes, and when to move |
//! | `outgoing` | what to send on it |
//! | `renewal` | a fresh token on a connection |
//! | `replace` | a new connection beside the old one |

pub(crate) mod dial;
pub(crate) mod driver;
mod outgoing;
mod renewal;
mod replace;
mod talk;
mod tls;
