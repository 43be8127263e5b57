//! `yumen limits`: how the limits of the running gateway are used, and how much one key has used.

use clap::Args;
use serde_json::Value;

use super::door::{Door, each, escaped, number};
use super::table::Table;
use super::{Exit, Output, fail};

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
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(options: &Options) -> Exit {
    let query: Vec<String> = options.key.iter().map(|part| format!("key={}", escaped(part))).collect();
    let mut known = true;
    let exit = options.door.show_some(
        &format!("/limits?{}", query.join("&")),
        options.output,
        |limits| {
            if let (Some(wanted), Value::Object(limits)) = (&options.limit, limits) {
                limits.retain(|name, _| name == wanted);
                known = !limits.is_empty();
            }
            known
        },
        |limits| limits.as_object().into_iter().flatten().map(|(name, limit)| told(name, limit)).collect(),
    );
    let wanted = options.limit.as_deref().unwrap_or_default();
    if known { exit } else { fail(Exit::Usage, &format!("the running gateway uses no limit `{wanted}`")) }
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
    let mut table = Table::bare(2);
    for list in ["asked", "top"] {
        for one in each(limit, list) {
            let used = one.get("used").map_or_else(|| "?".to_owned(), Value::to_string);
            let of = format!("{used} of {}", number(one, "of"));
            let by = one.get("by").map(|by| format!("by {}", key(Some(by)))).unwrap_or_default();
            table.row([list, one.get("number").and_then(Value::as_str).unwrap_or_default(), &of, &by]);
        }
    }
    text += &table.to_string();
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
            \x20 asked  00f2  ? of 1000000  by client.ip\n\
            \x20 top    00f1  7 of 1000000\n";
        assert_eq!(told("monthly", &limit), expected);
    }
}
