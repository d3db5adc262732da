//! What is compared: two sides, each of one or more runs of the same work.

use anyhow::{bail, ensure};
use serde_json::Value;

use crate::results::ResultFile;

/// Two sets of runs that may be compared.
#[derive(Debug)]
pub struct Sides {
    /// The first, which ratios are to.
    pub a: Vec<ResultFile>,
    /// The other.
    pub b: Vec<ResultFile>,
    /// What is not the same about them and does not stand in the way: machines, binaries; with `--anyway` everything.
    pub remarks: Vec<String>,
}

impl Sides {
    /// Checks that all runs did the same work; `anyway`: notes it only.
    ///
    /// # Errors
    /// What differs.
    pub fn new(a: Vec<ResultFile>, b: Vec<ResultFile>, anyway: bool) -> anyhow::Result<Self> {
        let Some(first) = a.first().filter(|_| !b.is_empty()) else {
            bail!("a side has no results");
        };
        let mut differences = Vec::new();
        let mut remarks = Vec::new();
        for other in a.iter().chain(&b).skip(1) {
            for difference in work(first, other) {
                note(
                    &mut differences,
                    format!("{}, {}: {difference}", first.name, other.name),
                );
            }
        }
        ensure!(
            anyway || differences.is_empty(),
            "these are results of different work, so their figures say nothing about each other (compare them all the \
             same with --anyway):\n  {}",
            differences.join("\n  ")
        );
        remarks.append(&mut differences);
        for other in a.iter().chain(&b).skip(1) {
            for difference in circumstances(first, other) {
                note(&mut remarks, difference);
            }
        }
        for result in a.iter().chain(&b) {
            remarks.extend(doubts(result));
        }
        Ok(Self { a, b, remarks })
    }
}

fn note(into: &mut Vec<String>, text: String) {
    if !into.contains(&text) {
        into.push(text);
    }
}

/// Differences of what was done.
fn work(a: &ResultFile, b: &ResultFile) -> Vec<String> {
    if a.command() != b.command() {
        return vec![format!("{} against {}", a.command(), b.command())];
    }
    let mut found = Vec::new();
    differences(
        "",
        &a.value["parameters"],
        &b.value["parameters"],
        &mut found,
    );
    found
}

/// Differences of what it was done on and with. Two binaries are what a comparison is for.
fn circumstances(a: &ResultFile, b: &ResultFile) -> Vec<String> {
    let mut found = Vec::new();
    for (what, pointer) in [
        ("different machines", "/provenance/machine"),
        (
            "different versions of the bench",
            "/provenance/bench_version",
        ),
        ("different numbers of shards", "/shards"),
    ] {
        let of = |result: &ResultFile| result.value.pointer(pointer).cloned().unwrap_or_default();
        let mut inside = Vec::new();
        differences("", &of(a), &of(b), &mut inside);
        if !inside.is_empty() {
            found.push(format!("{what}: {}", inside.join(", ")));
        }
    }
    found
}

/// Why a run's figures should not be believed.
fn doubts(result: &ResultFile) -> Vec<String> {
    let mut found = Vec::new();
    if result.value["passed"] == Value::Bool(false) {
        found.push(format!("{} failed its own checks", result.name));
    }
    let limited =
        |load: crate::results::LoadIn<'_>| load.value["generator_limited"] == Value::Bool(true);
    if result.loads().any(limited) {
        found.push(format!(
            "{}: the generator was the limit, latencies are its own",
            result.name
        ));
    }
    found
}

/// Which values differ, by name.
fn differences(name: &str, a: &Value, b: &Value, into: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(of_a), Value::Object(of_b)) => {
            for (key, value) in of_a {
                let inner = if name.is_empty() {
                    key.clone()
                } else {
                    format!("{name}.{key}")
                };
                differences(&inner, value, of_b.get(key).unwrap_or(&Value::Null), into);
            }
            for (key, value) in of_b.iter().filter(|(key, _)| !of_a.contains_key(*key)) {
                differences(key, &Value::Null, value, into);
            }
        }
        _ if same(a, b) => {}
        _ => {
            let shown = |value: &Value| match value {
                Value::Null => "nothing".to_owned(),
                other => other.to_string(),
            };
            let name = if name.is_empty() {
                String::new()
            } else {
                format!("{name} ")
            };
            into.push(format!("{name}{} against {}", shown(a), shown(b)));
        }
    }
}

/// 10 and 10.0 are the same.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn result(name: &str, value: Value) -> ResultFile {
        ResultFile::new(name.to_owned(), value).unwrap()
    }

    fn fanout(name: &str, rate: Value) -> ResultFile {
        result(
            name,
            json!({"command": "fanout", "parameters": {"rate": rate, "watch": "50"}, "shards": 1}),
        )
    }

    #[test]
    fn different_work_is_refused_and_the_difference_named() {
        let refused = |b: ResultFile| {
            let error = Sides::new(vec![fanout("a.json", json!(10))], vec![b], false).unwrap_err();
            format!("{error:#}")
        };
        let other_rate = refused(fanout("b.json", json!(20)));
        assert!(
            other_rate.contains("rate 10 against 20") && other_rate.contains("b.json"),
            "{other_rate}"
        );
        assert!(refused(result("b", json!({"command": "idle"}))).contains("fanout against idle"));
        let more = result(
            "b",
            json!({"command": "fanout", "parameters": {"rate": 10, "watch": "50", "tls": true}}),
        );
        assert!(refused(more).contains("tls nothing against true"));
        // Repeated runs must be of the same work too.
        let mixed = vec![fanout("a1", json!(10)), fanout("a2", json!(11))];
        assert!(Sides::new(mixed, vec![fanout("b", json!(10))], false).is_err());
    }

    #[test]
    fn the_same_work_is_compared() {
        let sides = Sides::new(
            vec![fanout("a", json!(10))],
            vec![fanout("b", json!(10.0))],
            false,
        )
        .unwrap();
        assert!(sides.remarks.is_empty(), "{:?}", sides.remarks);
    }

    #[test]
    fn anyway_says_what_differs_all_the_same() {
        let mut b = fanout("b", json!(20));
        b.value["shards"] = json!(2);
        b.value["passed"] = json!(false);
        b.value["provenance"] = json!({"machine": {"cores": 4}});
        let sides = Sides::new(vec![fanout("a", json!(10))], vec![b], true).unwrap();
        let remarks = sides.remarks.join("\n");
        for text in [
            "rate 10 against 20",
            "shards: 1 against 2",
            "machines",
            "b failed",
        ] {
            assert!(remarks.contains(text), "{text}: {remarks}");
        }
    }
}
