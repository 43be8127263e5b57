//! `yumen pools`: how the pools of the running gateway are, and who of their targets takes requests.

use std::fmt::Write;

use clap::Args;
use serde_json::Value;

use super::door::{Door, each, each_of, number, word};
use super::table::Table;
use super::{Exit, Output, fail};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    door: Door,
    /// The name of one pool; left out: all of them.
    pool: Option<String>,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(options: &Options) -> Exit {
    let wanted = options.pool.as_deref();
    let mut known = true;
    let exit = options.door.show_some(
        "/pools",
        options.output,
        |pools| {
            if let (Some(wanted), Value::Array(pools)) = (wanted, pools) {
                pools.retain(|pool| word(pool, "name") == wanted);
                known = !pools.is_empty();
            }
            known
        },
        |pools| each_of(pools).map(told).collect(),
    );
    if known {
        exit
    } else {
        fail(Exit::Usage, &format!("the running gateway has no pool `{}`", wanted.unwrap_or_default()))
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
    let mut targets = Table::bare(2);
    for target in each(pool, "targets") {
        targets.row(one(target));
    }
    text += &targets.to_string();
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
fn one(target: &Value) -> [String; 6] {
    let mut how = Vec::new();
    if number(target, "weight") != 1 {
        how.push(format!("weight {}", number(target, "weight")));
    }
    if let Some(hand) = target.get("by_hand") {
        how.push(format!("by hand for {} s more", number(hand, "ends_in_seconds")));
    }
    if number(target, "priority") > 0 {
        how.push(format!("priority {}", number(target, "priority")));
    }
    match word(target, "out") {
        "standby" => how.push("on standby".to_owned()),
        "drained" => how.push("drained".to_owned()),
        _ => {}
    }
    let mut why = word(target, "reason").to_owned();
    if let Some(breaker) = target.get("breaker") {
        why += &broken(breaker);
    }
    if let Some(ejection) = target.get("ejection").filter(|ejection| ejection.get("out") == Some(&true.into())) {
        let would = if ejection.get("shadow").is_some() { "would be ejected" } else { "ejected" };
        let ends = ejection.get("ends_in_seconds").and_then(Value::as_f64).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = write!(why, "; {would} for {ends} s more: {}", word(ejection, "cause"));
    }
    [
        word(target, "address").to_owned(),
        word(target, "state").to_owned(),
        how.join(", "),
        format!("{} in flight", number(target, "in_flight")),
        format!("{} of {} failed", number(target, "failures"), number(target, "picks")),
        why.trim_start_matches("; ").to_owned(),
    ]
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
            \x20 10.0.0.1:80  up    priority 1, on standby  2 in flight  0 of 9 failed\n\
            \x20 10.0.0.2:80  down  weight 3                0 in flight  4 of 9 failed  status 500\n\
            \x20 10.0.0.3:80  up                            0 in flight  5 of 9 failed  ejected for 12 s more: 5 failures in a row\n\
            \x20 10.0.0.4:80  up                            0 in flight  5 of 9 failed  breaker half open: 5 of 9 failed in 10s\n\
            \x20 10.0.0.5:80  up                            0 in flight  5 of 9 failed  breaker would be open for 7 s more: 5 failures in a row\n\
            \x20 from consul:orders  up, 4 found\n\
            \x20 from app.internal:80  down, 0 found: every address found is refused\n\
            \x20   127.0.0.1:80 is not used: loopback\n";
        assert_eq!(told(&pool), expected);
    }
}
