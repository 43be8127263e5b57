//! `yumen why REQUEST-ID`: what was decided about a request that the running gateway refused or failed, and where it says so.

use std::fmt::Write;

use clap::Args;
use serde_json::Value;

use super::door::{Door, each, escaped, number, rough, word};
use super::table::Table;
use super::{Exit, Output};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    door: Door,
    /// The `x-request-id` of the answer, or `request_id` of it and of the log; left out: the last ones are listed.
    id: Option<String>,
    /// How many are listed.
    #[arg(long, value_name = "NUMBER", default_value_t = 20, conflicts_with = "id")]
    last: u16,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(options: &Options) -> Exit {
    let target = match &options.id {
        Some(id) => format!("/why?id={}", escaped(id)),
        None => format!("/why?last={}", options.last),
    };
    options.door.show(&target, options.output, |page| match &options.id {
        Some(_) => each(page, "requests").map(told).collect::<Vec<_>>().join("\n"),
        None => listed(page),
    })
}

/// A request a line.
fn listed(page: &Value) -> String {
    let mut table = Table::new(["time", "status", "code", "route", "request", "id"]);
    for request in each(page, "requests") {
        let time = word(request, "time").get(..19).unwrap_or_default();
        let target = format!("{} {}{}", word(request, "method"), word(request, "host"), word(request, "path"));
        let route = request.get("route").map_or("-", |route| word(route, "name"));
        let code = or_dash(word(request, "code"));
        table.row([
            time,
            &number(request, "status").to_string(),
            code,
            route,
            &short(&target),
            word(request, "request_id"),
        ]);
    }
    let age = rough(number(page, "complete_for_seconds"));
    format!("{table}{} kept, all of the last {age}\n", number(page, "kept"))
}

/// A request, whole.
fn told(request: &Value) -> String {
    let mut text = head(request);
    let mut table = Table::bare(2);
    if let Some(rule) = request.get("rule").and_then(Value::as_str) {
        table.row(["rule", rule]);
    }
    if let Some(detail) = request.get("detail").and_then(Value::as_str) {
        table.row(["because", &clean(detail)]);
    }
    table.row(["client", &client(request)]);
    if let Some(route) = request.get("route") {
        table.row(["route", &format!("{}  by {}", placed(route), or_dash(word(route, "match")))]);
    }
    if let Some(pool) = request.get("pool") {
        table.row(["pool", &placed(pool)]);
    }
    for (at, one) in each(request, "attempts").enumerate() {
        table.row([&format!("try {}", at + 1), &attempt(one)]);
    }
    for one in each(request, "calls") {
        table.row([&format!("call {}", word(one, "name")), &call(one)]);
    }
    if let Some(why) = request.get("not_retried").and_then(Value::as_str) {
        table.row(["no more", &format!("not tried again: {why}")]);
    }
    table.row(["took", &took(request)]);
    table.row(["trace", &format!("{}, generation {}", word(request, "trace_id"), number(request, "generation"))]);
    // Writing to a String cannot fail.
    let _ = write!(text, "{table}");
    text + &guards(request) + &targets(request)
}

fn head(request: &Value) -> String {
    let query = request.get("query").and_then(Value::as_str).map(|query| format!("?{query}")).unwrap_or_default();
    let cut = if request.get("cut").is_some() { ", the answer was cut off" } else { "" };
    format!(
        "{} {}  {} {}{}{}  {} ({} ago){cut}\n",
        number(request, "status"),
        or_dash(word(request, "code")),
        word(request, "method"),
        word(request, "host"),
        clean(word(request, "path")),
        clean(&query),
        word(request, "time"),
        rough(number(request, "seconds_ago")),
    )
}

fn client(request: &Value) -> String {
    let known =
        request.get("consumer").and_then(Value::as_str).map(|consumer| format!(", known as {}", clean(consumer)));
    let listener = request.get("listener").map(placed).unwrap_or_default();
    format!("{} by {} to {listener}{}", word(request, "client"), word(request, "protocol"), known.unwrap_or_default())
}

/// A name of the document with its place.
fn placed(named: &Value) -> String {
    let place = named.get("place").and_then(Value::as_str).map(|place| format!(" ({place})"));
    format!("{}{}", word(named, "name"), place.unwrap_or_default())
}

fn attempt(one: &Value) -> String {
    let millis = |key: &str| one.get(key).and_then(Value::as_f64);
    let reused = if one.get("reused").is_some() { " on a kept connection" } else { "" };
    let mut text = format!(
        "{}  {} after {} ms{reused}",
        word(one, "target"),
        end(one).unwrap_or_default(),
        millis("took_ms").unwrap_or_default()
    );
    if let Some(head) = millis("first_byte_ms") {
        let _ = write!(text, ", the head came after {head} ms");
    }
    if let Some(waited) = millis("waited_ms") {
        let _ = write!(text, ", begun {waited} ms after the one before");
    }
    text
}

fn call(one: &Value) -> String {
    let took = one.get("took_ms").and_then(Value::as_f64).unwrap_or_default();
    let tries = match number(one, "tries") {
        0 | 1 => String::new(),
        many => format!(", {many} tries"),
    };
    format!("pool {}  {} after {took} ms{tries}", word(one, "pool"), end(one).unwrap_or("could not be made".to_owned()))
}

/// How a try or a call ended.
fn end(one: &Value) -> Option<String> {
    one.get("end").map(|end| match end.get("status").and_then(Value::as_u64) {
        Some(status) => format!("answered {status}"),
        None => word(end, "code").to_owned(),
    })
}

fn took(request: &Value) -> String {
    let time = |key: &str| request.get("timings_ms").and_then(|times| times.get(key)).and_then(Value::as_f64);
    let mut text = format!("{} ms", time("total").unwrap_or_default());
    for (key, word) in [("queue", "waiting for a place"), ("upstream", "at targets")] {
        if let Some(time) = time(key) {
            let _ = write!(text, ", {time} ms {word}");
        }
    }
    text
}

/// What each guard said, in their order.
fn guards(request: &Value) -> String {
    let mut table = Table::bare(4);
    for guard in each(request, "guards") {
        let code = guard.get("code").and_then(Value::as_str).map(|code| format!(": {code}")).unwrap_or_default();
        table.row([word(guard, "rule"), &format!("{}{code}", word(guard, "said")), &clean(word(guard, "detail"))]);
    }
    with_title("guards", &table)
}

/// Why no target took it.
fn targets(request: &Value) -> String {
    let mut table = Table::bare(4);
    for target in each(request, "targets") {
        table.row([word(target, "target"), word(target, "out"), &clean(word(target, "detail"))]);
    }
    with_title("targets", &table)
}

fn with_title(title: &str, table: &Table) -> String {
    let rows = table.to_string();
    if rows.is_empty() { rows } else { format!("  {title}\n{rows}") }
}

fn or_dash(word: &str) -> &str {
    if word.is_empty() { "-" } else { word }
}

/// What a client sent cannot steer a terminal.
fn clean(text: &str) -> String {
    text.chars()
        .flat_map(|letter| if letter.is_control() { letter.escape_default().collect() } else { vec![letter] })
        .collect()
}

fn short(text: &str) -> String {
    let mut short: String = clean(text).chars().take(60).collect();
    if text.chars().count() > 60 {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_is_told_as_people_read_it() {
        let request = json!({
            "request_id": "r1", "trace_id": "0af7", "time": "2026-11-26T13:00:00.000001Z", "seconds_ago": 120, "generation": 3,
            "status": 403, "code": "client.refused", "rule": "routes.admin.ip (y:31:5)", "detail": "10.9.0.1 is in 10.9.0.0/16",
            "listener": { "name": "edge", "place": "y:2:3" }, "client": "10.9.0.1", "protocol": "HTTP/2",
            "method": "GET", "host": "api.example.com", "path": "/admin\u{1b}", "consumer": "alice",
            "route": { "name": "admin", "place": "y:29:3", "match": "GET /admin/*" },
            "guards": [
                { "rule": "routes.admin.ip (y:31:5)", "said": "refused", "code": "client.refused", "detail": "10.9.0.1 is in 10.9.0.0/16" },
                { "rule": "auth.staff (y:9:3)", "said": "not asked" },
            ],
            "attempts": [
                { "target": "a:80", "end": { "code": "upstream.refused" }, "took_ms": 0.3 },
                { "target": "b:80", "reused": true, "end": { "status": 503 }, "waited_ms": 25.0, "took_ms": 2.0, "first_byte_ms": 1.5 },
            ],
            "not_retried": "budget", "timings_ms": { "total": 31.25, "upstream": 30.1 },
        });
        let expected = "403 client.refused  GET api.example.com/admin\\u{1b}  2026-11-26T13:00:00.000001Z (2m ago)
  rule     routes.admin.ip (y:31:5)
  because  10.9.0.1 is in 10.9.0.0/16
  client   10.9.0.1 by HTTP/2 to edge (y:2:3), known as alice
  route    admin (y:29:3)  by GET /admin/*
  try 1    a:80  upstream.refused after 0.3 ms
  try 2    b:80  answered 503 after 2 ms on a kept connection, the head came after 1.5 ms, begun 25 ms after the one before
  no more  not tried again: budget
  took     31.25 ms, 30.1 ms at targets
  trace    0af7, generation 3
  guards
    routes.admin.ip (y:31:5)  refused: client.refused  10.9.0.1 is in 10.9.0.0/16
    auth.staff (y:9:3)        not asked
";
        assert_eq!(told(&request), expected);
    }
}
