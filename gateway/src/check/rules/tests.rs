//! Machines that nobody has at hand.

use std::path::PathBuf;

use super::*;
use crate::check::files::{CertificateFact, FileFact, FolderFact};
use crate::check::finding::Verdict::{self, Missing, Ok as Fine, Warn};
use crate::config::{KeyAlgorithm, KeySource};

const SHARDS: u64 = 2;
const NOW: i64 = 1_900_000_000;

fn config() -> Config {
    let mut config = Config::defaults().expect("the defaults are complete");
    config.auth.keys = vec![KeySource {
        algorithm: KeyAlgorithm::Hs256,
        file: "secret".into(),
        kid: None,
    }];
    config
}

/// A machine with nothing to complain of.
fn good() -> Facts {
    Facts {
        release: "6.1.0-28-amd64".to_owned(),
        ring: Ok(()),
        io_uring_disabled: None,
        own_table: Ok(()),
        seccomp: Some(true),
        uid: 999,
        capabilities: Some(0),
        locked_bytes_max: 256 << 20,
        descriptors: 1_048_576,
        nr_open: Some(1_048_576),
        somaxconn: Some(4_096),
        tcp_migrate_req: Some(1),
        ephemeral_ports: Some((32_768, 60_999)),
        reserved_ports: Vec::new(),
        unprivileged_port_start: Some(1_024),
        kernel_tls: false,
        clock_kept_by: Some("chronyd".to_owned()),
        cores: 2,
        keys: vec![FileFact {
            setting: "auth.keys",
            path: "secret".into(),
            secret: true,
            mode: Ok(0o600),
        }],
        now_unix: NOW,
        certificates: vec![CertificateFact {
            path: "chain.pem".into(),
            ends_unix: Ok(NOW + 90 * 86_400),
        }],
        folders: vec![FolderFact {
            setting: "events.directory",
            path: "events".into(),
            mode: Some(0o700),
            writable: Ok(()),
            free_bytes: Some(1 << 40),
        }],
    }
}

/// What is not as it should be.
fn complaints(config: &Config, facts: &Facts) -> Vec<(&'static str, Verdict)> {
    judge(config, SHARDS, facts)
        .into_iter()
        .inspect(|finding| {
            assert_eq!(
                finding.remedy.is_some(),
                finding.verdict != Fine,
                "{finding:?}"
            );
            assert!(!finding.says.is_empty() && !finding.says.contains('\n'));
        })
        .filter(|finding| finding.verdict != Fine)
        .map(|finding| (finding.check, finding.verdict))
        .collect()
}

#[test]
fn a_good_machine_is_left_in_peace() {
    assert_eq!(complaints(&config(), &good()), []);
    let mut facts = good();
    facts.kernel_tls = true;
    facts.folders[0].mode = None;
    facts.locked_bytes_max = u64::MAX;
    facts.release = "7.0".to_owned();
    assert_eq!(complaints(&config(), &facts), []);
}

#[test]
fn each_lack_is_one_finding() {
    type Change = fn(&mut Facts);
    let cases: &[(&str, Verdict, Change)] = &[
        ("kernel", Missing, |f| f.release = "5.10.0-9-amd64".into()),
        ("kernel", Missing, |f| f.release = "6.0.12".into()),
        ("io_uring", Missing, |f| f.ring = Err("blocked".into())),
        ("descriptor table", Missing, |f| {
            f.own_table = Err("EPERM".into())
        }),
        ("seccomp", Warn, |f| f.seccomp = Some(false)),
        ("seccomp", Warn, |f| f.seccomp = None),
        ("user", Warn, |f| f.uid = 0),
        ("user", Warn, |f| f.capabilities = Some(1 << 21)),
        ("locked memory", Missing, |f| f.locked_bytes_max = 65_536),
        ("locked memory", Warn, |f| f.locked_bytes_max = 1 << 20),
        ("descriptors", Warn, |f| f.descriptors = 20_000),
        ("cores", Warn, |f| f.cores = 1),
        ("clock", Warn, |f| f.clock_kept_by = None),
        ("backlog", Warn, |f| f.somaxconn = Some(128)),
        ("tcp_migrate_req", Warn, |f| f.tcp_migrate_req = Some(0)),
        ("tcp_migrate_req", Warn, |f| f.tcp_migrate_req = None),
        ("ephemeral ports", Warn, |f| {
            f.ephemeral_ports = Some((1_024, 65_535))
        }),
        ("certificates", Warn, |f| f.certificates.clear()),
        ("certificates", Warn, |f| {
            f.certificates[0].ends_unix = Ok(NOW + 86_400)
        }),
        ("certificates", Missing, |f| {
            f.certificates[0].ends_unix = Ok(NOW - 1)
        }),
        ("certificates", Missing, |f| {
            f.certificates[0].ends_unix = Err("no PEM".into())
        }),
        ("keys", Warn, |f| f.keys[0].mode = Ok(0o644)),
        ("keys", Warn, |f| f.keys[0].mode = Ok(0o660)),
        ("keys", Missing, |f| {
            f.keys[0].mode = Err("no such file".into())
        }),
        ("folders", Warn, |f| f.folders.clear()),
        ("folders", Warn, |f| f.folders[0].mode = Some(0o755)),
        ("folders", Missing, |f| {
            f.folders[0].writable = Err("EACCES".into())
        }),
        ("folders", Warn, |f| f.folders[0].free_bytes = Some(1 << 20)),
    ];
    for (number, (check, verdict, change)) in cases.iter().enumerate() {
        let mut facts = good();
        change(&mut facts);
        assert_eq!(
            complaints(&config(), &facts),
            [(*check, *verdict)],
            "case {number}"
        );
    }
}

#[test]
fn without_a_key_nobody_gets_in() {
    let mut config = config();
    config.auth.keys.clear();
    let mut facts = good();
    facts.keys.clear();
    assert_eq!(complaints(&config, &facts), [("keys", Warn)]);
}

#[test]
fn a_public_key_may_be_read_by_everybody() {
    let mut facts = good();
    facts.keys[0] = FileFact {
        setting: "auth.keys",
        path: PathBuf::from("fleet.pub.pem"),
        secret: false,
        mode: Ok(0o644),
    };
    assert_eq!(complaints(&config(), &facts), []);
}

#[test]
fn a_low_port_needs_a_capability() {
    let mut config = config();
    config.server.listen = ([0, 0, 0, 0], 443).into();
    assert_eq!(complaints(&config, &good()), [("port", Missing)]);
    let mut facts = good();
    facts.capabilities = Some(1 << 10);
    assert_eq!(complaints(&config, &facts), []);
    facts.capabilities = Some(0);
    facts.unprivileged_port_start = Some(0);
    assert_eq!(complaints(&config, &facts), []);
}

#[test]
fn a_port_that_is_reserved_is_not_given_away() {
    let mut facts = good();
    facts.ephemeral_ports = Some((1_024, 65_535));
    facts.reserved_ports = vec![(9_400, 9_402)];
    assert_eq!(complaints(&config(), &facts), []);
}

#[test]
fn the_remedy_names_what_is_in_the_way() {
    let remedy = |facts: &Facts| {
        let findings = judge(&config(), SHARDS, facts);
        let found = findings.into_iter().find(|finding| finding.verdict != Fine);
        found.and_then(|finding| finding.remedy).expect("a remedy")
    };
    let mut facts = good();
    facts.ring = Err("blocked".to_owned());
    assert!(remedy(&facts).contains("seccomp.json"));
    facts.io_uring_disabled = Some(2);
    assert!(remedy(&facts).contains("kernel.io_uring_disabled=0"));

    let mut facts = good();
    facts.descriptors = 20_000;
    assert!(remedy(&facts).starts_with("LimitNOFILE="));
    facts.nr_open = Some(20_000);
    assert!(remedy(&facts).contains("fs.nr_open="));
    let mut few = config();
    few.limits.connections_per_shard_max = 10_000;
    assert_eq!(complaints(&few, &facts), []);
}
