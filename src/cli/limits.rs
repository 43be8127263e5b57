//! `yumen limits`: how the limits of the running gateway are used, and how much one key has used.

use std::fmt::Write;

use clap::Args;
use http::Method;
use serde_json::{Map, Value};

use super::door::{Door, escaped};
use super::{Exit, Format, fail, print};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    door: Door,
    /// A key, as a request would have it, e.g. the name of a consumer or an address; once for each part of the key.
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// The name of one limit; left out: all of them.
    #[arg(long, value_name = "NAME")]
    limit: Option<String>,
    /// For people or for programs.
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

pub(super) fn run(options: &Options) -> Exit {
    let query: Vec<String> = options.key.iter().map(|part| format!("key={}", escaped(part))).collect();
    let answer = match options.door.ask(Method::GET, &format!("/limits?{}", query.join("&"))) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    let Ok(mut limits) = serde_json::from_slice::<Map<String, Value>>(&answer.body) else {
        return fail(Exit::Internal, &format!("the gateway answered {}", answer.status));
    };
    if let Some(wanted) = &options.limit {
        limits.retain(|name, _| name == wanted);
        if limits.is_empty() {
            return fail(Exit::Usage, &format!("the running gateway uses no limit `{wanted}`"));
        }
    }
    match options.format {
        Format::Json => print(&format!("{:#}\n", Value::Object(limits))),
        Format::Human => print(&limits.iter().map(|(name, limit)| told(name, limit)).collect::<String>()),
    }
}

/// A limit in a few lines.
fn told(name: &str, limit: &Value) -> String {
    let word = |key: &str| limit.get(key).and_then(Value::as_str).unwrap_or_default();
    let shares = limit.get("share").and_then(Value::as_str).map(|store| format!(" in store {store}"));
    let shadow = if word("mode") == "shadow" { ", only watches" } else { "" };
    let keys = limit.get("keys").and_then(Value::as_u64).unwrap_or_default();
    let ends = limit.get("ends").and_then(Value::as_str).map(|ends| format!(", ends {ends}"));
    let by = key(limit.get("key"));
    let mut text = format!(
        "{name}  {} {} by {by}{}, {keys} keys here{}{shadow}\n",
        word("kind"),
        word("number"),
        shares.unwrap_or_default(),
        ends.unwrap_or_default()
    );
    for list in ["asked", "top"] {
        for one in limit.get(list).and_then(Value::as_array).into_iter().flatten() {
            let number = one.get("number").and_then(Value::as_str).unwrap_or_default();
            let used = one.get("used").map_or_else(|| "?".to_owned(), Value::to_string);
            let of = one.get("of").and_then(Value::as_u64).unwrap_or_default();
            let by = one.get("by").map(|by| format!("  by {}", key(Some(by)))).unwrap_or_default();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {list:5} {number}  {used} of {of}{by}");
        }
    }
    text
}

/// One part or several.
fn key(key: Option<&Value>) -> String {
    match key {
        Some(Value::String(part)) => part.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_limit_is_told_in_a_few_lines() {
        let limit = json!({
            "kind": "quota", "number": "1M/month", "key": ["consumer", "host"], "keys": 3, "share": "shared",
            "ends": "2026-12-01T00:00:00Z", "mode": "shadow",
            "top": [{ "number": "00f1", "used": 7, "of": 1_000_000 }],
            "asked": [{ "by": "client.ip", "number": "00f2", "of": 1_000_000 }],
        });
        let expected = "monthly  quota 1M/month by consumer, host in store shared, 3 keys here, ends 2026-12-01T00:00:00Z, only watches\n\
            \x20 asked 00f2  ? of 1000000  by client.ip\n\
            \x20 top   00f1  7 of 1000000\n";
        assert_eq!(told("monthly", &limit), expected);
    }
}
