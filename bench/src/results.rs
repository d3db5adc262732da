//! Result files, read back. They may come from anybody, so nothing in them is believed to have any type or size.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// A day of seconds takes 40 MB.
const BYTES_MAX: u64 = 256 << 20;
/// Where in a result the result of a checked load may stand, and whose it is.
const LOADS: [(&str, &str); 7] = [
    ("", ""),
    ("/existing", "existing connections"),
    ("/fleet", "the fleet"),
    ("/healthy", "healthy dashboards"),
    ("/good", "good clients"),
    ("/beside", "the load beside idle connections"),
    ("/night/positions", "positions"),
];

/// A result.
#[derive(Clone, Debug)]
pub struct ResultFile {
    /// What it is called: the name of its file.
    pub name: String,
    /// All of it.
    pub value: Value,
}

/// A checked load in a result.
#[derive(Clone, Copy, Debug)]
pub struct LoadIn<'a> {
    /// Where it stands, as the beginning of a JSON pointer.
    pub at: &'static str,
    /// Whose it is; empty if the result is of nothing else.
    pub whose: &'static str,
    /// All of it.
    pub value: &'a Value,
}

impl ResultFile {
    /// Reads what a subcommand wrote with `--json`.
    ///
    /// # Errors
    /// The file cannot be read, or is no such result.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let file = File::open(path).with_context(|| format!("reading {shown}"))?;
        let mut text = String::new();
        file.take(BYTES_MAX + 1)
            .read_to_string(&mut text)
            .with_context(|| format!("reading {shown}"))?;
        ensure!(
            text.len() as u64 <= BYTES_MAX,
            "{shown} has more than {BYTES_MAX} bytes: no result of this program"
        );
        let value = serde_json::from_str(&text).with_context(|| format!("{shown} is no JSON"))?;
        let name = path.file_name().map_or_else(
            || shown.to_string(),
            |name| name.to_string_lossy().into_owned(),
        );
        Self::new(name, value).with_context(|| format!("reading {shown}"))
    }

    /// A result that is called `name`.
    ///
    /// # Errors
    /// It does not say what it is the result of.
    pub fn new(name: String, value: Value) -> anyhow::Result<Self> {
        match value.get("command") {
            Some(Value::String(_)) => Ok(Self { name, value }),
            Some(_) => bail!("\"command\" is no text: no result of this program"),
            None => {
                bail!("it has no \"command\": no result of this program (write one with --json)")
            }
        }
    }

    /// Which subcommand made it.
    pub fn command(&self) -> &str {
        self.value["command"].as_str().unwrap_or_default()
    }

    /// A number, by JSON pointer.
    pub fn number(&self, pointer: &str) -> Option<f64> {
        self.value.pointer(pointer)?.as_f64()
    }

    /// A text, by JSON pointer.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.value.pointer(pointer)?.as_str()
    }

    /// Demands that it says were not met.
    pub fn failures(&self) -> Vec<&str> {
        self.texts("failures")
    }

    /// A list of texts.
    pub fn texts(&self, key: &str) -> Vec<&str> {
        let texts = self.value[key].as_array();
        texts
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }

    /// The checked loads in it.
    pub fn loads(&self) -> impl Iterator<Item = LoadIn<'_>> {
        LOADS.iter().filter_map(|&(at, whose)| {
            let value = self.value.pointer(at)?;
            value.get("latency_us")?;
            value.get("inbound")?;
            Some(LoadIn { at, whose, value })
        })
    }

    /// It, and whole results of other subcommands that it holds, each with where it is from.
    pub fn with_parts(self) -> Vec<Self> {
        let runs = match self.command() {
            "curve" => self.value["runs"].as_array().cloned(),
            _ => None,
        };
        let parts = runs.into_iter().flatten().filter_map(|mut run| {
            let connections = run["connections"].as_u64();
            let provenance = self.value["provenance"].clone();
            run.as_object_mut()?
                .insert("provenance".to_owned(), provenance);
            let name = connections.map_or_else(
                || self.name.clone(),
                |connections| format!("{}, {connections} connections", self.name),
            );
            Self::new(name, run).ok()
        });
        let parts: Vec<Self> = parts.collect();
        std::iter::once(self).chain(parts).collect()
    }

    /// How it is told from others on one page: its name, and whose load.
    pub fn title(&self, load: LoadIn<'_>) -> String {
        if load.whose.is_empty() {
            self.name.clone()
        } else {
            format!("{}, {}", self.name, load.whose)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_no_result_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.json");
        let error = |text: &str| {
            std::fs::write(&path, text).unwrap();
            format!("{:#}", ResultFile::read(&path).unwrap_err())
        };
        for (text, says) in [
            ("", "is no JSON"),
            ("{", "is no JSON"),
            ("[]", "no \"command\""),
            ("{\"command\": 3}", "is no text"),
        ] {
            let said = error(text);
            assert!(said.contains(says) && said.contains("r.json"), "{said}");
        }
        let missing = ResultFile::read(&folder.path().join("none.json")).unwrap_err();
        assert!(format!("{missing:#}").contains("none.json"));
    }

    #[test]
    fn a_curve_holds_a_result_for_each_of_its_points() {
        let curve = json!({
            "command": "curve", "provenance": {"date": "today"},
            "runs": [{"command": "idle", "connections": 10}, 7, {"no": "command"}, {"command": "idle", "provenance": 3}],
        });
        let parts = ResultFile::new("c".to_owned(), curve).unwrap().with_parts();
        let names: Vec<_> = parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["c", "c, 10 connections", "c"]);
        assert!(
            parts
                .iter()
                .all(|part| part.text("/provenance/date") == Some("today"))
        );
        for odd in [
            json!({"command": "curve"}),
            json!({"command": "curve", "runs": 3}),
        ] {
            let odd = ResultFile::new("o".to_owned(), odd).unwrap();
            assert_eq!(odd.with_parts().len(), 1);
        }
    }

    #[test]
    fn loads_are_found_where_scenarios_put_them() {
        let load = json!({"latency_us": {"p50": 1}, "inbound": 2});
        let storm = json!({"command": "storm", "existing": load, "healthy": 7});
        let storm = ResultFile::new("s".to_owned(), storm).unwrap();
        let found: Vec<_> = storm.loads().map(|load| storm.title(load)).collect();
        assert_eq!(found, ["s, existing connections"]);
        assert_eq!(storm.number("/existing/inbound"), Some(2.0));
        assert_eq!(storm.number("/command"), None);
    }
}
