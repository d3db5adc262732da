//! What the kernel holds for TCP, of the whole system.

use std::fs;

use anyhow::{Context, anyhow};

const PATH: &str = "/proc/net/sockstat";

/// TCP sockets of the whole system, whosever they are, and what waits in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpSockets {
    /// All that are allocated, in whatever state.
    pub allocated: u64,
    /// Pages that hold data to be sent or read, in bytes. Each core sets aside up to 1 MiB that is not counted yet, or
    /// not any more.
    pub memory_bytes: u64,
}

/// The TCP sockets of the system.
///
/// # Errors
/// The kernel does not say.
pub fn tcp() -> anyhow::Result<TcpSockets> {
    let text = fs::read_to_string(PATH).with_context(|| format!("reading {PATH}"))?;
    parse(&text, rustix::param::page_size() as u64)
        .ok_or_else(|| anyhow!("{PATH} does not say what TCP holds"))
}

fn parse(text: &str, page_bytes: u64) -> Option<TcpSockets> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let field = |name: &str| {
        let (_, value) = words
            .chunks_exact(2)
            .map(|pair| (pair[0], pair[1]))
            .find(|&(key, _)| key == name)?;
        value.parse::<u64>().ok()
    };
    Some(TcpSockets {
        allocated: field("alloc")?,
        memory_bytes: field("mem")? * page_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
sockets: used 20143
TCP: inuse 20007 orphan 0 tw 3 alloc 20011 mem 1309
UDP: inuse 2 mem 0
UDPLITE: inuse 0
RAW: inuse 0
FRAG: inuse 0 memory 0
";

    #[test]
    fn tcps_line_is_read_by_name() {
        let expected = TcpSockets {
            allocated: 20_011,
            memory_bytes: 1_309 * 4_096,
        };
        assert_eq!(parse(TEXT, 4_096), Some(expected));
        assert_eq!(parse(&TEXT.replace("mem 1309", ""), 4_096), None);
        assert_eq!(parse(&TEXT.replace("TCP:", "TCP6:"), 4_096), None);
    }

    #[test]
    fn an_open_socket_is_among_them() {
        let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(tcp().unwrap().allocated >= 1);
    }
}
