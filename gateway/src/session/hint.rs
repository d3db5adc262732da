//! The word that a token's key is not here: from those who check tokens to whoever fetches keys.
#![forbid(unsafe_code)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;

/// A flag and whom to wake.
#[derive(Debug, Default)]
pub struct KeyHint {
    raised: AtomicBool,
    listener: OnceLock<Thread>,
}

impl KeyHint {
    /// Wakes the listener, once until it has taken the hint: whoever makes up keys in a flood of tokens costs one
    /// wake-up, not one each.
    pub fn raise(&self) {
        if !self.raised.swap(true, Ordering::AcqRel)
            && let Some(listener) = self.listener.get()
        {
            listener.unpark();
        }
    }

    /// Whether it was raised since the last time.
    pub fn take(&self) -> bool {
        self.raised.swap(false, Ordering::AcqRel)
    }

    /// The thread that listens from now on; it is one only.
    pub fn listen(&self, thread: Thread) {
        let _ = self.listener.set(thread);
    }

    /// Wakes the listener for another reason.
    pub fn wake(&self) {
        if let Some(listener) = self.listener.get() {
            listener.unpark();
        }
    }
}
