//! The printed configuration file: every setting with its comment, environment variable and default.
#![forbid(unsafe_code)]

use std::fmt::{self, Write};

use confique::Config as _;
use confique::meta::{Expr, Field, FieldKind, LeafKind, Meta};

use super::Config;

/// The full commented TOML. Parsing it gives the defaults.
pub fn template() -> String {
    let mut out = String::new();
    // Writing into a String does not fail.
    write_file(&mut out).expect("a String takes any text");
    out
}

fn write_file(out: &mut String) -> fmt::Result {
    write_comment(out, Config::META.doc)?;
    for section in Config::META.fields {
        if let FieldKind::Nested { meta } = section.kind {
            writeln!(out)?;
            write_comment(out, section.doc)?;
            write_section(out, section.name, meta)?;
        }
    }
    Ok(())
}

fn write_section(out: &mut String, name: &str, meta: &Meta) -> fmt::Result {
    writeln!(out, "[{name}]")?;
    for (position, field) in meta.fields.iter().enumerate() {
        if position > 0 {
            writeln!(out)?;
        }
        write_setting(out, field)?;
    }
    Ok(())
}

fn write_setting(out: &mut String, field: &Field) -> fmt::Result {
    write_comment(out, field.doc)?;
    let FieldKind::Leaf { env, kind } = field.kind else {
        return Ok(());
    };
    if let Some(variable) = env {
        writeln!(out, "# Environment: {variable}")?;
    }
    match kind {
        LeafKind::Required {
            default: Some(default),
        } => writeln!(out, "{} = {}", field.name, value(&default)),
        LeafKind::Required { default: None } | LeafKind::Optional => {
            writeln!(out, "# {} =", field.name)
        }
    }
}

fn write_comment(out: &mut String, lines: &[&str]) -> fmt::Result {
    // Doc lines begin with the space that follows `///`.
    lines
        .iter()
        .try_for_each(|line| writeln!(out, "{}", format!("#{line}").trim_end()))
}

fn value(default: &Expr) -> String {
    match toml::Value::try_from(default) {
        Ok(value) => value.to_string(),
        Err(error) => format!("# {error}"),
    }
}
