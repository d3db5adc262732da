//! The report, for people and for programs.

use std::fmt::Write;

use serde_json::json;

use super::{Finding, Verdict};

/// One line per check, and one more with what to do.
pub fn text(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let word = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Missing => "missing",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{word:<8} {:<17} {}", finding.check, finding.says);
        if let Some(remedy) = &finding.remedy {
            let _ = writeln!(out, "{:<26} -> {remedy}", "");
        }
    }
    let count = |verdict| findings.iter().filter(|f| f.verdict == verdict).count();
    let _ = writeln!(
        out,
        "\n{} checks: {} to mend, {} to think about",
        findings.len(),
        count(Verdict::Missing),
        count(Verdict::Warn)
    );
    out
}

/// The same as one JSON object: `ready`, and `checks` with `check`, `verdict`, `says` and `remedy` each.
pub fn json(findings: &[Finding]) -> String {
    let ready = findings.iter().all(|f| f.verdict != Verdict::Missing);
    format!("{:#}\n", json!({ "ready": ready, "checks": findings }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_what_to_do() {
        let findings = [
            Finding::ok("kernel", "Linux 6.18"),
            Finding::missing("keys", "there is none", "name one"),
        ];
        let text = text(&findings);
        assert!(text.starts_with("ok       kernel            Linux 6.18\nmissing  keys"));
        assert!(text.contains("-> name one") && text.contains("2 checks: 1 to mend, 0 to"));
        let value: serde_json::Value = serde_json::from_str(&json(&findings)).expect("it is JSON");
        assert_eq!(value["ready"], false);
        assert_eq!(value["checks"][1]["verdict"], "missing");
        assert_eq!(value["checks"][0].get("remedy"), None);
    }
}
