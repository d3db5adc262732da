//! What this machine is like, as far as the rules ask. What cannot be read is `None`, never a guess.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use rustix::process::{Resource, geteuid, getrlimit};

use super::files::{CertificateFact, FileFact, FolderFact};
use crate::config::{Config, KeyAlgorithm};
use crate::shard::ring;
use crate::shard::ring::sys::unshare_descriptors;

/// What the rules judge.
#[derive(Debug, Clone)]
pub struct Facts {
    /// As `uname -r` says.
    pub release: String,
    /// Why a shard could not have its ring.
    pub ring: Result<(), String>,
    /// `kernel.io_uring_disabled`: 0 for everybody, 1 for a group, 2 for nobody (Linux 6.6).
    pub io_uring_disabled: Option<u64>,
    /// Why a shard could not have a descriptor table of its own.
    pub own_table: Result<(), String>,
    /// Whether a seccomp filter is on this process.
    pub seccomp: Option<bool>,
    /// Effective user.
    pub uid: u32,
    /// Effective capabilities (capabilities(7)), as bits.
    pub capabilities: Option<u64>,
    /// Bytes that may be locked; `u64::MAX` for no limit.
    pub locked_bytes_max: u64,
    /// Descriptors of one table: the hard limit, to which the gateway raises its own.
    pub descriptors: u64,
    /// `fs.nr_open`: what the hard limit may be raised to.
    pub nr_open: Option<u64>,
    /// `net.core.somaxconn`.
    pub somaxconn: Option<u64>,
    /// `net.ipv4.tcp_migrate_req`.
    pub tcp_migrate_req: Option<u64>,
    /// `net.ipv4.ip_local_port_range`, both included.
    pub ephemeral_ports: Option<(u16, u16)>,
    /// `net.ipv4.ip_local_reserved_ports`, as ranges, both included.
    pub reserved_ports: Vec<(u16, u16)>,
    /// `net.ipv4.ip_unprivileged_port_start`.
    pub unprivileged_port_start: Option<u64>,
    /// Whether the kernel can encrypt TLS records itself.
    pub kernel_tls: bool,
    /// What keeps the clock right, if anything is seen to.
    pub clock_kept_by: Option<String>,
    /// Cores that this process may use.
    pub cores: u64,
    /// Seconds since the Unix epoch.
    pub now_unix: i64,
    /// Files with keys of tokens and of certificates.
    pub keys: Vec<FileFact>,
    /// Files with certificates that are shown to clients.
    pub certificates: Vec<CertificateFact>,
    /// Folders that it writes to.
    pub folders: Vec<FolderFact>,
}

/// Reads all of it.
pub fn read(config: &Config) -> Facts {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of_tokens = config.auth.keys.iter().map(|key| {
        let secret = key.algorithm == KeyAlgorithm::Hs256;
        FileFact::read("auth.keys", &key.file, secret)
    });
    let of_sets = config.auth.key_sets.iter().filter_map(|set| {
        let file = set.file.as_deref()?;
        Some(FileFact::read("auth.key_sets", file, false))
    });
    let shown = &config.tls.certificates;
    let of_certificates = shown
        .iter()
        .map(|shown| FileFact::read("tls.certificates", &shown.key, true));
    let audit = config.audit.file.as_deref().and_then(Path::parent);
    let folders = [
        ("state.directory", config.state.directory.as_deref()),
        ("events.directory", config.events.directory.as_deref()),
        ("audit.file", audit),
    ]
    .into_iter()
    .filter_map(|(setting, folder)| Some(FolderFact::read(setting, folder?)))
    .collect();
    Facts {
        release: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        ring: on_a_thread(|| ring::is_available().map_err(|error| error.to_string())),
        io_uring_disabled: number("kernel/io_uring_disabled"),
        own_table: on_a_thread(|| unshare_descriptors().map_err(|error| error.to_string())),
        seccomp: field(&status, "Seccomp:").map(|mode| mode != "0"),
        uid: geteuid().as_raw(),
        capabilities: field(&status, "CapEff:").and_then(|bits| u64::from_str_radix(bits, 16).ok()),
        locked_bytes_max: getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX),
        descriptors: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
        nr_open: number("fs/nr_open"),
        somaxconn: number("net/core/somaxconn"),
        tcp_migrate_req: number("net/ipv4/tcp_migrate_req"),
        ephemeral_ports: setting("net/ipv4/ip_local_port_range").and_then(|text| port_pair(&text)),
        reserved_ports: setting("net/ipv4/ip_local_reserved_ports")
            .map(|text| port_ranges(&text))
            .unwrap_or_default(),
        unprivileged_port_start: number("net/ipv4/ip_unprivileged_port_start"),
        kernel_tls: setting("net/ipv4/tcp_available_ulp")
            .is_some_and(|names| names.split_ascii_whitespace().any(|name| name == "tls")),
        clock_kept_by: clock_keeper(),
        cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64),
        now_unix: SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |since| since.as_secs() as i64),
        keys: of_tokens.chain(of_sets).chain(of_certificates).collect(),
        certificates: shown
            .iter()
            .map(|shown| CertificateFact::read(&shown.chain))
            .collect(),
        folders,
    }
}

/// What changes the thread that tries it is tried on one that ends.
fn on_a_thread(
    attempt: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    std::thread::spawn(attempt)
        .join()
        .unwrap_or_else(|_| Err("the attempt ended in a panic".to_owned()))
}

fn setting(path: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?;
    Some(text.trim().to_owned())
}

fn number(path: &str) -> Option<u64> {
    setting(path)?.parse().ok()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim())
}

fn port_pair(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once(char::is_whitespace)?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}

/// As in `8080,9400-9402`.
fn port_ranges(text: &str) -> Vec<(u16, u16)> {
    text.split(',')
        .filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
        })
        .collect()
}

/// Asking the kernel (adjtimex) would need more than it is worth; a daemon that runs is what operators look for too.
fn clock_keeper() -> Option<String> {
    const DAEMONS: [&str; 6] = [
        "chronyd",
        "ntpd",
        "ntpd-rs",
        "openntpd",
        "ptp4l",
        "systemd-timesyn", // the kernel keeps 15 characters of a name
    ];
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return Some("systemd-timesyncd".to_owned());
    }
    fs::read_dir("/proc").ok()?.find_map(|process| {
        let comm = fs::read_to_string(process.ok()?.path().join("comm")).ok()?;
        DAEMONS
            .contains(&comm.trim())
            .then(|| comm.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_taken_apart() {
        assert_eq!(port_pair("32768\t60999"), Some((32_768, 60_999)));
        assert_eq!(port_pair("32768"), None);
        assert_eq!(
            port_ranges("8080,9400-9402"),
            [(8_080, 8_080), (9_400, 9_402)]
        );
        assert_eq!(port_ranges(""), []);
        let status = "Name:\tx\nCapEff:\t0000000000000400\nSeccomp:\t2\n";
        assert_eq!(field(status, "CapEff:"), Some("0000000000000400"));
        assert_eq!(field(status, "Nothing:"), None);
    }

    #[test]
    fn this_machine_can_be_read() {
        let facts = read(&Config::defaults().expect("the defaults are complete"));
        assert!(
            facts
                .release
                .starts_with(|first: char| first.is_ascii_digit())
        );
        assert!(facts.descriptors > 0 && facts.cores > 0);
        assert!(facts.somaxconn.is_some() && facts.ephemeral_ports.is_some());
        assert!(facts.keys.is_empty() && facts.folders.is_empty() && facts.certificates.is_empty());
    }
}
