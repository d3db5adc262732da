//! Bytes on their way out: a WebSocket frame or an HTTP answer, shared by every connection that gets the same bytes.

use std::rc::Rc;

/// Immutable bytes, counted per shard; cloning it copies nothing.
#[derive(Debug, Clone)]
pub struct Frame(Rc<[u8]>);

impl Frame {
    /// The bytes as they go onto the wire.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl From<&[u8]> for Frame {
    fn from(bytes: &[u8]) -> Frame {
        Frame(Rc::from(bytes))
    }
}

impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Frame {
        Frame(Rc::from(bytes))
    }
}
