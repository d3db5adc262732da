//! Runs a program under a seccomp profile for containers, without a container:
//!
//! ```sh
//! confine tuning/seccomp.json longhaul run --config longhaul.toml
//! ```
//!
//! With one difference: a system call that the profile does not allow ends the process (`SIGSYS`) in place of failing, so
//! that a test cannot overlook it. The kernel names the call in its log (`type=1326`, `syscall=`).

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use seccompiler::{TargetArch, apply_filter, compile_from_json};
use serde::Deserialize;
use serde_json::{Value, json};

/// As much of a profile (OCI runtime specification, `linux.seccomp`, in Docker's form) as ours uses.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Profile {
    default_action: String,
    #[serde(rename = "defaultErrnoRet")]
    _default_errno: u32,
    #[serde(rename = "archMap")]
    _architectures: Value,
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Vec<Argument>,
    #[serde(rename = "comment")]
    _comment: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Argument {
    index: u8,
    value: u64,
    value_two: u64,
    op: String,
}

fn main() -> ExitCode {
    match confine() {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("confine: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn confine() -> anyhow::Result<std::convert::Infallible> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(file), Some(program)) = (arguments.next(), arguments.next()) else {
        bail!("usage: confine PROFILE PROGRAM [ARGUMENT...]");
    };
    let text = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
    let profile: Profile = serde_json::from_slice(&text).context("the profile's form")?;
    if profile.default_action != "SCMP_ACT_ERRNO" {
        bail!("the profile allows what it does not name");
    }
    for filter in filters(&profile)? {
        let text = json!({ "filter": filter }).to_string();
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        let programs = compile_from_json(text.as_bytes(), arch)?;
        // Sets no_new_privs as well, without which only root may filter.
        apply_filter(&programs["filter"])?;
    }
    Err(Command::new(&program).args(arguments).exec())
        .with_context(|| format!("starting {}", program.display()))
}

/// One filter that ends the process for what is not allowed, and one for each error that is to be returned. Of several
/// filters the strictest verdict counts (seccomp(2)).
fn filters(profile: &Profile) -> anyhow::Result<Vec<Value>> {
    let mut allowed = Vec::new();
    let mut refused: BTreeMap<u32, Vec<Value>> = BTreeMap::new();
    for rule in &profile.syscalls {
        let args = rule
            .args
            .iter()
            .map(condition)
            .collect::<anyhow::Result<Vec<_>>>()?;
        for name in &rule.names {
            let call = if args.is_empty() {
                json!({ "syscall": name })
            } else {
                json!({ "syscall": name, "args": args })
            };
            match (rule.action.as_str(), rule.errno_ret) {
                ("SCMP_ACT_ALLOW", None) => allowed.push(call),
                ("SCMP_ACT_ERRNO", Some(errno)) => {
                    allowed.push(call.clone());
                    refused.entry(errno).or_default().push(call);
                }
                (action, _) => bail!("unknown action {action} of {name}"),
            }
        }
    }
    let errors = refused.into_iter().map(|(errno, calls)| {
        json!({ "mismatch_action": "allow", "match_action": { "errno": errno }, "filter": calls })
    });
    let last =
        json!({ "mismatch_action": "kill_process", "match_action": "allow", "filter": allowed });
    Ok(errors.chain([last]).collect())
}

fn condition(argument: &Argument) -> anyhow::Result<Value> {
    let Argument {
        index,
        value,
        value_two,
        op,
    } = argument;
    let (op, val) = match op.as_str() {
        "SCMP_CMP_EQ" => (json!("eq"), value),
        "SCMP_CMP_MASKED_EQ" => (json!({ "masked_eq": value }), value_two),
        other => bail!("unknown comparison {other}"),
    };
    // Flags and families are ints; the kernel ignores the upper half.
    Ok(json!({ "index": index, "type": "dword", "op": op, "val": val }))
}
