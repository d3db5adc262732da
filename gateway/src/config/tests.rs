use std::fs;

use confique::meta::{FieldKind, Meta};

use super::*;

fn from_file(text: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("longhaul.toml");
    fs::write(&path, text).expect("a file in it");
    Config::load(Some(&path), Overrides::default(), false)
}

fn refusal(text: &str) -> String {
    from_file(text).expect_err(text).to_string()
}

/// Every setting as (section, name, doc lines).
fn settings() -> Vec<(&'static str, &'static str, &'static [&'static str])> {
    let mut all = Vec::new();
    for section in Config::META.fields {
        let FieldKind::Nested {
            meta: Meta { fields, .. },
        } = section.kind
        else {
            panic!("{} is no section", section.name)
        };
        all.extend(
            fields
                .iter()
                .map(|field| (section.name, field.name, field.doc)),
        );
    }
    all
}

#[test]
fn the_printed_file_parses_to_the_defaults() {
    assert_eq!(
        from_file(&template()).expect("it parses"),
        Config::defaults().expect("they are complete")
    );
}

#[test]
fn the_printed_file_stays_within_a_screen_width() {
    for line in template().lines() {
        assert!(line.chars().count() <= 125, "{line}");
    }
}

#[test]
fn every_setting_and_every_section_has_a_comment() {
    for section in Config::META.fields {
        assert!(!section.doc.is_empty(), "[{}] has no comment", section.name);
    }
    for (section, name, doc) in settings() {
        assert!(!doc.is_empty(), "{section}.{name} has no comment");
    }
}

#[test]
fn every_documented_range_is_the_one_that_is_checked() {
    let mut seen = 0;
    for (section, name, doc) in settings() {
        let printed = template();
        let is_number = printed.lines().any(|line| {
            line.strip_prefix(name)
                .and_then(|rest| rest.strip_prefix(" = "))
                .is_some_and(|value| value.parse::<i64>().is_ok())
        });
        let range = doc
            .iter()
            .find_map(|line| line.trim().strip_prefix("Allowed: "));
        let Some(range) = range else {
            assert!(!is_number, "{section}.{name} documents no range");
            continue;
        };
        let (low, high) = range
            .trim_end_matches('.')
            .split_once(" to ")
            .expect("A to B");
        let (low, high): (i64, i64) = (
            low.parse().expect("a number"),
            high.parse().expect("a number"),
        );
        let parse = |value: i64| toml::from_str::<Layer>(&format!("[{section}]\n{name} = {value}"));
        for allowed in [low, high] {
            assert!(
                parse(allowed).is_ok(),
                "{section}.{name} = {allowed} is allowed"
            );
        }
        for refused in [low - 1, high + 1] {
            let error = parse(refused)
                .err()
                .unwrap_or_else(|| panic!("{section}.{name} = {refused} was taken"));
            let text = error.to_string();
            assert!(
                text.contains(name) && text.contains(&refused.to_string()),
                "{text}"
            );
            if refused >= 0 && refused <= i64::from(u16::MAX) {
                assert!(text.contains(&format!("{low} to {high}")), "{text}");
            }
        }
        seen += 1;
    }
    assert!(seen > 20, "only {seen} ranges were looked at");
}

#[test]
fn an_unknown_key_is_refused_by_name_and_line() {
    let text = refusal("[server]\nshards = 2\npase_us = 5\n");
    assert!(
        text.contains("pase_us") && text.contains("line 3") && text.contains("pace_us"),
        "{text}"
    );
    let text = refusal("[sever]\n");
    assert!(text.contains("sever") && text.contains("line 1"), "{text}");
    let text = refusal("[auth]\nkeys = [{ algorithm = \"HS256\", path = \"x\" }]");
    assert!(text.contains("path") && text.contains("line 2"), "{text}");
}

#[test]
fn a_value_out_of_range_is_refused_with_key_value_and_range() {
    let text = refusal("[server]\npace_us = 100001");
    assert!(
        text.contains("pace_us") && text.contains("100001") && text.contains("0 to 100000"),
        "{text}"
    );
    let text = refusal("[receive]\nbuffers = 1000");
    assert!(text.contains("1000 is not a power of two"), "{text}");
}

#[test]
fn what_must_hold_between_settings_is_checked() {
    for (text, words) in [
        (
            "[connection]\nheartbeat_ms = 9000\ndead_after_ms = 9000",
            ["dead_after_ms = 9000", "heartbeat_ms = 9000"],
        ),
        (
            "[limits]\necho_message_bytes_max = 65535",
            [
                "echo_message_bytes_max = 65535",
                "message_bytes_max = 65536",
            ],
        ),
        (
            "[limits]\necho_frames_per_message_max = 9",
            [
                "echo_frames_per_message_max = 9",
                "frames_per_message_max = 1024",
            ],
        ),
        (
            "[limits]\nvehicles_max = 99999",
            ["subscription_vehicles_max = 100000", "vehicles_max = 99999"],
        ),
        (
            "[limits]\nposition_batch_max = 8192",
            ["position_batch_max = 8192", "message_bytes_max = 65536"],
        ),
        (
            "[control]\nlisten = \"0.0.0.0:9401\"",
            ["control.listen", "allow_remote"],
        ),
        (
            "[server]\nlisten = \"127.0.0.1:9401\"",
            ["both", "127.0.0.1:9401"],
        ),
    ] {
        let message = refusal(text);
        assert!(
            words.iter().all(|word| message.contains(word)),
            "{text}\n{message}"
        );
    }
    assert!(from_file("[control]\nlisten = \"0.0.0.0:9401\"\nallow_remote = true").is_ok());
}

#[test]
fn too_many_keys_are_refused() {
    let keys = "[[auth.keys]]\nalgorithm = \"EdDSA\"\nfile = \"a.pem\"\n";
    assert!(from_file(&keys.repeat(KEYS_HARD_MAX)).is_ok());
    assert!(refusal(&keys.repeat(KEYS_HARD_MAX + 1)).contains("17 keys"));
}

#[test]
fn a_key_file_starts_at_the_configuration_files_folder() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("longhaul.toml");
    fs::write(&path, "[auth]\nkeys = [{ algorithm = \"EdDSA\", file = \"a.pem\" }, { algorithm = \"HS256\", file = \"/b\" }]")
        .expect("a file in it");
    let config = Config::load(Some(&path), Overrides::default(), false).expect("it loads");
    assert_eq!(config.auth.keys[0].file, folder.path().join("a.pem"));
    assert_eq!(config.auth.keys[1].file, Path::new("/b"));
}

#[test]
fn a_state_folder_starts_at_the_configuration_files_folder() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("longhaul.toml");
    for (setting, expected) in [
        ("directory = \"state\"", Some(folder.path().join("state"))),
        ("directory = \"/state\"", Some(PathBuf::from("/state"))),
        ("", None),
    ] {
        fs::write(&path, format!("[state]\n{setting}")).expect("a file in it");
        let config = Config::load(Some(&path), Overrides::default(), false).expect("it loads");
        assert_eq!(config.state.directory, expected);
    }
    assert!(refusal("[state]\ndirectory = \"\"").contains("the path is empty"));
}

#[test]
fn a_flag_wins_over_the_file_and_obeys_the_same_rules() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("longhaul.toml");
    fs::write(&path, "[server]\nshards = 3\npace_us = 7").expect("a file in it");
    let mut flags = Overrides::default();
    flags.set("server", "shards", 5);
    let config = Config::load(Some(&path), flags.clone(), false).expect("it loads");
    assert_eq!((config.server.shards, config.server.pace_us), (5, 7));

    flags.set("server", "shards", 65);
    let message = Config::load(Some(&path), flags, false)
        .expect_err("65 is too many")
        .to_string();
    assert!(
        message.contains("shards") && message.contains("0 to 64"),
        "{message}"
    );
}

#[test]
fn development_mode_listens_on_loopback_only() {
    let config = Config::load(None, Overrides::default(), true).expect("it loads");
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:9400");
    let mut flags = Overrides::default();
    flags.set("server", "listen", "0.0.0.0:9400");
    let message = Config::load(None, flags, true)
        .expect_err("the world is too far")
        .to_string();
    assert!(
        message.contains("--dev") && message.contains("0.0.0.0:9400"),
        "{message}"
    );
}

#[test]
fn the_node_is_named_after_the_host_unless_it_is_named() {
    let mut config = Config::defaults().expect("they are complete");
    assert!(!config.node_name().is_empty());
    config.server.node = Some("edge-7".to_owned());
    assert_eq!(config.node_name(), "edge-7");
}
