//! Keys and folders.

use crate::check::facts::Facts;
use crate::check::files::{CertificateFact, FileFact, FolderFact};
use crate::check::finding::Finding;
use crate::config::Config;

/// Permission bits of everybody but the owner and the group.
const OTHERS: u32 = 0o007;
/// Write permission of everybody but the owner.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Snapshots and handovers of a large fleet take tens of megabytes.
const STATE_BYTES_MIN: u64 = 256 << 20;
/// A certificate is to be renewed by then.
const CERTIFICATE_DAYS_MIN: i64 = 14;
const DAY_S: i64 = 86_400;

pub fn keys(config: &Config, facts: &Facts) -> Vec<Finding> {
    if config.auth.keys.is_empty() && config.auth.key_sets.is_empty() {
        let none = Finding::warn(
            "keys",
            "none is configured for tokens: the gateway starts only with --dev",
            "name one in auth.keys, or a set of them in auth.key_sets",
        );
        return facts.keys.iter().map(key).chain([none]).collect();
    }
    facts.keys.iter().map(key).collect()
}

pub fn certificates(config: &Config, facts: &Facts) -> Vec<Finding> {
    if facts.certificates.is_empty() && !config.server.listen.ip().is_loopback() {
        return vec![Finding::warn(
            "certificates",
            format!(
                "none: tokens and positions travel in the clear to {}",
                config.server.listen
            ),
            "set tls.certificates, or end TLS in front of the gateway, on a network that nobody else is on",
        )];
    }
    let judge = |certificate| judge_certificate(certificate, facts.now_unix);
    facts.certificates.iter().map(judge).collect()
}

fn judge_certificate(certificate: &CertificateFact, now_unix: i64) -> Finding {
    let path = certificate.path.display();
    let days = match &certificate.ends_unix {
        Ok(ends) => (ends - now_unix).div_euclid(DAY_S),
        Err(error) => {
            return Finding::missing(
                "certificates",
                format!("{path} (tls.certificates) cannot be used: {error}"),
                "name a PEM file with the certificate and its intermediates",
            );
        }
    };
    let renew = "renew it; SIGHUP makes the gateway read it again";
    match days {
        ..0 => Finding::missing("certificates", format!("{path} has expired"), renew),
        0..CERTIFICATE_DAYS_MIN => Finding::warn(
            "certificates",
            format!("{path} expires within {} days", days + 1),
            renew,
        ),
        _ => Finding::ok("certificates", format!("{path}, good for {days} days")),
    }
}

fn key(file: &FileFact) -> Finding {
    let FileFact {
        setting,
        path,
        secret,
        mode,
    } = file;
    let path = path.display();
    match mode {
        Err(error) => Finding::missing(
            "keys",
            format!("{path} ({setting}) cannot be read: {error}"),
            "name a file that the gateway's user can read",
        ),
        Ok(mode) if mode & WRITABLE_BY_OTHERS != 0 => Finding::warn(
            "keys",
            format!(
                "{path} can be changed by others than its owner (mode {mode:o}), and so can who gets in"
            ),
            format!("chmod go-w {path}"),
        ),
        Ok(mode) if *secret && mode & OTHERS != 0 => Finding::warn(
            "keys",
            format!("{path} is a secret that every user of this machine can read (mode {mode:o})"),
            format!("chmod 600 {path}"),
        ),
        Ok(mode) => Finding::ok("keys", format!("{path} (mode {mode:o})")),
    }
}

pub fn folders(config: &Config, facts: &Facts) -> Vec<Finding> {
    if facts.folders.is_empty() {
        return vec![Finding::warn(
            "folders",
            "nothing is kept: neither positions across a restart, nor events with qos 1, nor commands",
            "set state.directory and events.directory",
        )];
    }
    facts
        .folders
        .iter()
        .map(|folder| {
            let least = match folder.setting {
                "events.directory" => config.events.free_bytes_min,
                _ => STATE_BYTES_MIN,
            };
            judge(folder, least)
        })
        .collect()
}

fn judge(folder: &FolderFact, least_free: u64) -> Finding {
    let path = folder.path.display();
    let setting = folder.setting;
    if let Err(error) = &folder.writable {
        return Finding::missing(
            "folders",
            format!("{path} ({setting}) cannot be written to: {error}"),
            "give it to the gateway's user, or name another",
        );
    }
    if let Some(mode) = folder.mode.filter(|mode| mode & OTHERS != 0) {
        return Finding::warn(
            "folders",
            format!("{path} ({setting}) is open to every user of this machine (mode {mode:o})"),
            format!("chmod 700 {path}"),
        );
    }
    match folder.free_bytes {
        Some(free) if free < least_free => Finding::warn(
            "folders",
            format!("{path} ({setting}) has {free} bytes free, and {least_free} are wanted"),
            "make room on its disk",
        ),
        Some(free) => Finding::ok(
            "folders",
            format!("{path} ({setting}), {} MiB free", free >> 20),
        ),
        None => Finding::ok("folders", format!("{path} ({setting})")),
    }
}
