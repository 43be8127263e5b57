//! `yumen pools`: how the pools of the running gateway are, and who of their targets takes requests.

use std::fmt::Write;

use clap::Args;
use http::Method;
use serde_json::Value;

use super::door::{Door, number, word};
use super::{Exit, Format, fail, print};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    door: Door,
    /// The name of one pool; left out: all of them.
    pool: Option<String>,
    /// For people or for programs.
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

pub(super) fn run(options: &Options) -> Exit {
    let answer = match options.door.ask(Method::GET, "/pools") {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    let Ok(mut pools) = serde_json::from_slice::<Vec<Value>>(&answer.body) else {
        return fail(Exit::Internal, &format!("the gateway answered {}", answer.status));
    };
    if let Some(wanted) = &options.pool {
        pools.retain(|pool| word(pool, "name") == wanted);
        if pools.is_empty() {
            return fail(Exit::Usage, &format!("the running gateway has no pool `{wanted}`"));
        }
    }
    match options.format {
        Format::Json => print(&format!("{:#}\n", Value::Array(pools))),
        Format::Human => print(&pools.iter().map(told).collect::<String>()),
    }
}

/// A pool in a few lines.
fn told(pool: &Value) -> String {
    let panic = if pool.get("panic").is_some() { ", panic: all are used" } else { "" };
    let hand = pool.get("by_hand").map(|hand| format!(", held {} by hand", word(hand, "held")));
    let mut text = format!(
        "{}  {}, {} of {} healthy{panic}{}\n",
        word(pool, "name"),
        word(pool, "state"),
        number(pool, "healthy"),
        number(pool, "total"),
        hand.unwrap_or_default()
    );
    if let Some(breaker) = pool.get("breaker") {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  all targets{}", broken(breaker));
    }
    if let Some(queue) = pool.get("queue") {
        let (waiting, most) = (number(queue, "waiting"), number(queue, "most"));
        let _ = writeln!(text, "  {waiting} of {most} wait for one of {} places a target", number(queue, "per_target"));
    }
    for target in pool.get("targets").and_then(Value::as_array).into_iter().flatten() {
        text += &one(target);
    }
    for source in pool.get("discover").and_then(Value::as_array).into_iter().flatten() {
        text += &found(source);
    }
    text
}

/// Where targets come from, and who of them is not believed.
fn found(source: &Value) -> String {
    let mut text =
        format!("  from {}  {}, {} found", word(source, "source"), word(source, "state"), number(source, "found"));
    if let Some(reason) = source.get("reason").and_then(Value::as_str) {
        let _ = write!(text, ": {reason}");
    }
    text.push('\n');
    for refused in source.get("refused").and_then(Value::as_array).into_iter().flatten() {
        let _ = writeln!(text, "    {} is not used: {}", word(refused, "address"), word(refused, "why"));
    }
    text
}

/// One target, and why it takes no requests.
fn one(target: &Value) -> String {
    let mut text = format!("  {}  {}", word(target, "address"), word(target, "state"));
    if number(target, "weight") != 1 {
        let _ = write!(text, ", weight {}", number(target, "weight"));
    }
    if number(target, "priority") > 0 {
        let _ = write!(text, ", priority {}", number(target, "priority"));
    }
    if word(target, "out") == "standby" {
        text += ", on standby";
    }
    let _ = write!(text, ", {} in flight", number(target, "in_flight"));
    let _ = write!(text, ", {} of {} failed", number(target, "failures"), number(target, "picks"));
    if let Some(reason) = target.get("reason").and_then(Value::as_str) {
        let _ = write!(text, ": {reason}");
    }
    if let Some(breaker) = target.get("breaker") {
        text += &broken(breaker);
    }
    if let Some(ejection) = target.get("ejection").filter(|ejection| ejection.get("out") == Some(&true.into())) {
        let would = if ejection.get("shadow").is_some() { "would be ejected" } else { "ejected" };
        let ends = ejection.get("ends_in_seconds").and_then(Value::as_f64).unwrap_or_default();
        let _ = write!(text, "; {would} for {ends} s more: {}", word(ejection, "cause"));
    }
    text.push('\n');
    text
}

/// What there is to say of a breaker.
fn broken(breaker: &Value) -> String {
    match word(breaker, "state") {
        "closed" => String::new(),
        state => {
            let would = if breaker.get("shadow").is_some() { "would be " } else { "" };
            let next = breaker.get("next_try_seconds").and_then(Value::as_f64);
            let next = next.map(|seconds| format!(" for {seconds} s more")).unwrap_or_default();
            format!("; breaker {would}{}{next}: {}", state.replace('_', " "), word(breaker, "cause"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pool_is_told_in_a_line_for_each_target() {
        let pool = json!({
            "name": "orders", "state": "degraded", "healthy": 1, "total": 4, "panic": true,
            "targets": [
                { "address": "10.0.0.1:80", "weight": 1, "priority": 1, "out": "standby", "state": "up", "in_flight": 2, "picks": 9, "failures": 0 },
                { "address": "10.0.0.2:80", "weight": 3, "state": "down", "in_flight": 0, "picks": 9, "failures": 4, "reason": "status 500" },
                { "address": "10.0.0.3:80", "weight": 1, "state": "up", "in_flight": 0, "picks": 9, "failures": 5,
                  "ejection": { "out": true, "cause": "5 failures in a row", "ends_in_seconds": 12.0 } },
                { "address": "10.0.0.4:80", "weight": 1, "state": "up", "in_flight": 0, "picks": 9, "failures": 5,
                  "breaker": { "state": "half_open", "cause": "5 of 9 failed in 10s" } },
                { "address": "10.0.0.5:80", "weight": 1, "state": "up", "in_flight": 0, "picks": 9, "failures": 5,
                  "breaker": { "state": "open", "shadow": true, "cause": "5 failures in a row", "next_try_seconds": 7.0 } },
            ],
            "discover": [
                { "source": "consul:orders", "state": "up", "found": 4 },
                { "source": "app.internal:80", "state": "down", "found": 0, "reason": "every address found is refused",
                  "refused": [{ "address": "127.0.0.1:80", "why": "loopback" }] },
            ],
        });
        let expected = "orders  degraded, 1 of 4 healthy, panic: all are used\n\
            \x20 10.0.0.1:80  up, priority 1, on standby, 2 in flight, 0 of 9 failed\n\
            \x20 10.0.0.2:80  down, weight 3, 0 in flight, 4 of 9 failed: status 500\n\
            \x20 10.0.0.3:80  up, 0 in flight, 5 of 9 failed; ejected for 12 s more: 5 failures in a row\n\
            \x20 10.0.0.4:80  up, 0 in flight, 5 of 9 failed; breaker half open: 5 of 9 failed in 10s\n\
            \x20 10.0.0.5:80  up, 0 in flight, 5 of 9 failed; breaker would be open for 7 s more: 5 failures in a row\n\
            \x20 from consul:orders  up, 4 found\n\
            \x20 from app.internal:80  down, 0 found: every address found is refused\n\
            \x20   127.0.0.1:80 is not used: loopback\n";
        assert_eq!(told(&pool), expected);
    }
}
