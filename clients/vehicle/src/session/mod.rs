//! What to do and when, without I/O: time and messages come in as arguments, decisions come out.
//!
//! | file | decides |
//! |---|---|
//! | `rules` | what an ended connection means: come back, with which token, when, or never |
//! | `course` | the same over the life of a client: attempts, backoff, the second question for a token |
//! | `backoff` | how long to wait |
//! | `window` | which event may be sent, and from where to begin again after a refusal |
//! | `pace` | whether one more message keeps within the gateway's rates |
//! | `heartbeat` | whether a quiet link is still one |
//! | `commands` | whether a command is new, in hand, or answered already |

pub(crate) mod backoff;
pub(crate) mod commands;
pub(crate) mod course;
pub(crate) mod heartbeat;
pub(crate) mod pace;
pub(crate) mod rules;
pub(crate) mod window;
