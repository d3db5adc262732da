//! `longhaul admin`: orders to a node, over its control plane, each with a token of its own.

use std::{path::Path, time::Duration};

use anyhow::{Context, anyhow, bail};
use serde_json::{Map, Value};
use ureq::http::{Method, Request, header};

use crate::{
    audit::unix_ms,
    cli::{AdminArgs, AdminCall, WhomArgs},
    config::{Config, KeyAlgorithm},
    limits::ADMIN_ANSWER_BYTES_MAX,
    session::{
        keys::SigningKey,
        mint::{Bearer, NewToken, mint},
        token::IdBounds,
    },
};

/// How long a token for one call is good: for two clocks that disagree a little, and no longer.
const TOKEN_SECONDS: u64 = 60;
/// How long a call may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// No token file is larger.
const TOKEN_BYTES_MAX: usize = 65_536;

/// What the node answered.
#[derive(Debug)]
pub struct Answered {
    /// Whether it did what was asked.
    pub ok: bool,
    /// What it said, to be printed.
    pub says: String,
}

/// Makes the call.
///
/// # Errors
/// There is no token, or no answer.
pub fn run(args: &AdminArgs) -> anyhow::Result<Answered> {
    let (method, path, body) = request(&args.call)?;
    if !args.control.starts_with("http://") {
        bail!(
            "--control {:?} does not begin with http://, and the control plane speaks nothing else; reach that of another \
             machine through a tunnel, such as ssh -L",
            args.control
        );
    }
    let token = token(args)?;
    let url = format!("{}{path}", args.control.trim_end_matches('/'));
    // It goes to one address that was named, and nowhere else with a token.
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(ANSWER_WITHIN))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .build()
        .into();
    let request = Request::builder()
        .method(method)
        .uri(&url)
        .header(header::AUTHORIZATION, format!("Bearer {token}"));
    let answer = match body {
        Some(body) => {
            let request = request
                .header(header::CONTENT_TYPE, "application/json")
                .body(body.to_string())
                .context("this call cannot be made")?;
            agent.run(request)
        }
        None => {
            let request = request.body(()).context("this call cannot be made")?;
            agent.run(request)
        }
    };
    let mut answer = answer.with_context(|| format!("no answer from {url} (--control)"))?;
    let says = answer
        .body_mut()
        .with_config()
        .limit(ADMIN_ANSWER_BYTES_MAX)
        .read_to_string()
        .context("the answer cannot be read")?;
    let status = answer.status();
    Ok(Answered {
        ok: status.is_success(),
        says: match serde_json::from_str::<Value>(&says) {
            Ok(value) => format!("{value:#}\n"),
            Err(_) if status.is_success() => says,
            Err(_) => format!("{status}: {says}"),
        },
    })
}

/// Method, path and body.
fn request(call: &AdminCall) -> anyhow::Result<(Method, String, Option<Value>)> {
    const REVOCATIONS: &str = "/admin/revocations";
    Ok(match call {
        AdminCall::Revoke {
            whom,
            issued_before,
            until,
            reason,
        } => {
            let mut entry = named(whom);
            set(&mut entry, "issued_before", *issued_before);
            set(&mut entry, "until", *until);
            set(&mut entry, "reason", reason.as_deref());
            (Method::POST, REVOCATIONS.to_owned(), Some(entry.into()))
        }
        AdminCall::Unrevoke { whom } => {
            let mut query = form_urlencoded::Serializer::for_suffix(
                format!("{REVOCATIONS}?"),
                REVOCATIONS.len() + 1,
            );
            for (name, value) in named(whom) {
                // `true` or a text.
                let text = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                query.append_pair(&name, &text);
            }
            (Method::DELETE, query.finish(), None)
        }
        AdminCall::Revocations { from } => {
            (Method::GET, format!("{REVOCATIONS}?from={from}"), None)
        }
        AdminCall::Evict { fleet, subject } => {
            let mut body = Map::new();
            set(&mut body, "fleet", Some(fleet.as_str()));
            set(&mut body, "subject", subject.as_deref());
            (Method::POST, "/admin/evict".to_owned(), Some(body.into()))
        }
        AdminCall::Reload => (Method::POST, "/admin/reload".to_owned(), None),
        AdminCall::Drain {
            alternative,
            reason,
        } => {
            let mut body = Map::new();
            set(&mut body, "alternative", alternative.as_deref());
            set(&mut body, "reason", reason.as_deref());
            (Method::POST, "/drain".to_owned(), Some(body.into()))
        }
        AdminCall::Call { method, path, body } => {
            let method = method.to_ascii_uppercase();
            let method = Method::from_bytes(method.as_bytes())
                .with_context(|| format!("{method:?} is no method"))?;
            if !path.starts_with('/') {
                bail!("{path:?} does not begin with /");
            }
            let body = body.as_deref().map(serde_json::from_str::<Value>);
            let body = body.transpose().context("the body is no JSON")?;
            (method, path.clone(), body)
        }
    })
}

fn named(whom: &WhomArgs) -> Map<String, Value> {
    let mut entry = Map::new();
    set(&mut entry, "token_id", whom.token_id.as_deref());
    set(&mut entry, "fleet", whom.fleet.as_deref());
    set(&mut entry, "subject", whom.subject.as_deref());
    set(&mut entry, "operator", whom.operator.as_deref());
    set(&mut entry, "all", whom.all.then_some(true));
    entry
}

fn set(body: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        body.insert(name.to_owned(), value.into());
    }
}

/// A fresh token, or the one in a file.
fn token(args: &AdminArgs) -> anyhow::Result<String> {
    if let Some(file) = &args.token_file {
        return token_in(file);
    }
    let key = match (&args.dev_key, &args.key, args.algorithm) {
        (Some(file), _, _) => SigningKey::load(KeyAlgorithm::Hs256, file)?,
        (None, Some(file), Some(algorithm)) => SigningKey::load(algorithm, file)?,
        _ => bail!("give --key and --algorithm, --dev-key, or --token-file"),
    };
    let now = unix_ms() / 1_000;
    let token = NewToken {
        role: Bearer::Operator,
        fleet: args.of_fleet.clone(),
        subject: args.name.clone(),
        issued_unix: now,
        expires_unix: now + TOKEN_SECONDS,
        kid: args.kid.clone(),
        issuer: args.issuer.clone(),
        audience: args.audience.clone(),
        may: Vec::new(),
        groups: Vec::new(),
        grants: None,
    };
    Ok(mint(
        &key,
        &token,
        IdBounds::new(&Config::defaults()?.limits),
    )?)
}

fn token_in(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the token in {}", file.display()))?;
    let token = text.trim();
    // It goes into a header; and nothing of it into a message.
    if token.is_empty()
        || token.len() > TOKEN_BYTES_MAX
        || !token.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(anyhow!("{} holds no token", file.display()));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::cli::{Cli, Command};

    fn call(arguments: &[&str]) -> (String, String, Value) {
        let all = ["longhaul", "admin", "--dev-key", "k"]
            .iter()
            .chain(arguments);
        let cli = Cli::try_parse_from(all).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
        let Command::Admin(args) = cli.command else {
            panic!("it is admin")
        };
        let (method, path, body) = request(&args.call).expect("it is a call");
        (method.to_string(), path, body.unwrap_or(json!(null)))
    }

    #[test]
    fn each_call_is_what_the_gateway_takes() {
        let expected = |method: &str, path: &str, body| (method.to_owned(), path.to_owned(), body);
        for (arguments, method, path, body) in [
            (
                &[
                    "revoke",
                    "--fleet",
                    "north",
                    "--subject",
                    "truck-7",
                    "--reason",
                    "stolen",
                ][..],
                "POST",
                "/admin/revocations",
                json!({"fleet": "north", "subject": "truck-7", "reason": "stolen"}),
            ),
            (
                &["revoke", "--token-id", "t-1", "--until", "9"],
                "POST",
                "/admin/revocations",
                json!({"token_id": "t-1", "until": 9}),
            ),
            (
                &["revoke", "--all", "--issued-before", "7"],
                "POST",
                "/admin/revocations",
                json!({"all": true, "issued_before": 7}),
            ),
            (
                &["unrevoke", "--fleet", "north", "--subject", "a b&c"],
                "DELETE",
                "/admin/revocations?fleet=north&subject=a+b%26c",
                json!(null),
            ),
            (
                &["unrevoke", "--all"],
                "DELETE",
                "/admin/revocations?all=true",
                json!(null),
            ),
            (
                &["revocations"],
                "GET",
                "/admin/revocations?from=0",
                json!(null),
            ),
            (
                &["evict", "--fleet", "north"],
                "POST",
                "/admin/evict",
                json!({"fleet": "north"}),
            ),
            (&["reload"], "POST", "/admin/reload", json!(null)),
            (
                &["drain", "--reason", "x"],
                "POST",
                "/drain",
                json!({"reason": "x"}),
            ),
            (
                &["call", "put", "/admin/x", "{\"a\":1}"],
                "PUT",
                "/admin/x",
                json!({"a": 1}),
            ),
        ] {
            assert_eq!(
                call(arguments),
                expected(method, path, body),
                "{arguments:?}"
            );
        }
    }

    #[test]
    fn whom_is_one_of_the_forms() {
        for wrong in [
            &["revoke"][..],
            &["revoke", "--subject", "x"],
            &["revoke", "--all", "--fleet", "x"],
            &["revoke", "--operator", "x", "--fleet", "y"],
            &[
                "revoke",
                "--token-id",
                "x",
                "--fleet",
                "y",
                "--subject",
                "z",
            ],
        ] {
            let all = ["longhaul", "admin", "--dev-key", "k"].iter().chain(wrong);
            assert!(Cli::try_parse_from(all).is_err(), "{wrong:?}");
        }
    }
}
