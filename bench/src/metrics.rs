//! What the gateway says of itself: `GET /metrics` on its control listener (OpenMetrics text), read with nothing but a
//! socket.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A gateway under a storm may answer late.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// One look at the gateway's metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// By name with labels, as it stands in the text: `name_total{cause="peer"}`.
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    /// Asks the control listener at `control`.
    ///
    /// # Errors
    /// It cannot be reached, or answers with another status than 200.
    pub fn scrape(control: SocketAddr) -> anyhow::Result<Self> {
        let (head, body) =
            get(control, "/metrics").with_context(|| format!("asking http://{control}/metrics"))?;
        ensure!(
            head.starts_with("HTTP/1.1 200"),
            "http://{control}/metrics answers {:?}",
            head.lines().next().unwrap_or_default()
        );
        Ok(Self::parse(&body))
    }

    /// Reads the text of an answer; lines that make no sense are left out.
    pub fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect();
        Self { samples }
    }

    /// One sample by its full name; 0 if the gateway has none such.
    pub fn value(&self, name: &str) -> f64 {
        self.samples.get(name).copied().unwrap_or(0.0)
    }

    /// The samples of a family by the value of its first label.
    pub fn family(&self, name: &str) -> BTreeMap<String, f64> {
        let prefix = format!("{name}{{");
        self.samples
            .range(prefix.clone()..)
            .take_while(|(sample, _)| sample.starts_with(&prefix))
            .filter_map(|(sample, &value)| Some((sample.split('"').nth(1)?.to_owned(), value)))
            .collect()
    }

    /// The sum of a family.
    pub fn sum(&self, name: &str) -> f64 {
        self.family(name).values().sum()
    }

    /// How much a family grew since `before`, without what did not.
    pub fn grown(&self, before: &Self, name: &str) -> BTreeMap<String, u64> {
        let then = before.family(name);
        self.family(name)
            .into_iter()
            .map(|(label, now)| {
                let grown = now - then.get(&label).copied().unwrap_or(0.0);
                (label, grown as u64)
            })
            .filter(|&(_, grown)| grown > 0)
            .collect()
    }
}

/// Head and body of the answer to a GET.
fn get(address: SocketAddr, path: &str) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok((head.to_owned(), body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP longhaul_connections_closed Connections closed, by cause\n\
        # TYPE longhaul_connections_closed counter\n\
        longhaul_connections_closed_total{cause=\"peer\"} 3\n\
        longhaul_connections_closed_total{cause=\"slow_consumer\"} 2\n\
        longhaul_connections_open{role=\"vehicle\"} 7\n\
        process_cpu_seconds_total 0.03\n\
        # EOF\n";

    #[test]
    fn samples_are_found_by_name_and_label() {
        let metrics = Metrics::parse(TEXT);
        assert_eq!(metrics.value("process_cpu_seconds_total"), 0.03);
        assert_eq!(
            metrics.value("longhaul_connections_closed_total{cause=\"peer\"}"),
            3.0
        );
        assert_eq!(metrics.value("longhaul_unheard_of"), 0.0);
        assert_eq!(metrics.sum("longhaul_connections_closed_total"), 5.0);
        assert_eq!(
            metrics.family("longhaul_connections_open"),
            BTreeMap::from([("vehicle".to_owned(), 7.0)])
        );
    }

    #[test]
    fn growth_is_by_label_and_leaves_out_what_stayed() {
        let before = Metrics::parse(TEXT);
        let after = Metrics::parse(&TEXT.replace("\"} 2\n", "\"} 5\n"));
        assert_eq!(
            after.grown(&before, "longhaul_connections_closed_total"),
            BTreeMap::from([("slow_consumer".to_owned(), 3)])
        );
    }
}
