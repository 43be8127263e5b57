//! `yumen status`: what runs, since when, whether it is what lies on disk, and what is held by hand.

use serde_json::Value;

use super::Exit;
use super::door::{View, each, number, rough, word};
use super::table::Table;

pub(super) fn run(view: &View) -> Exit {
    view.show("/status", told)
}

fn told(status: &Value) -> String {
    let mut table = Table::bare(0);
    let draining = if status.get("draining") == Some(&true.into()) { ", draining" } else { "" };
    let up = rough(number(status, "uptime_seconds"));
    table.row([
        "running",
        &format!("yumen {}, pid {}, up {up}{draining}", word(status, "version"), number(status, "pid")),
    ]);
    let on_disk = if status.get("up_to_date") == Some(&true.into()) {
        "the files on disk say the same".to_owned()
    } else {
        format!("the files on disk say something else ({})", word(status, "hash_on_disk"))
    };
    table.row(["generation", &format!("{}, hash {}: {on_disk}", number(status, "generation"), word(status, "hash"))]);
    for line in not_on_disk(status) {
        table.row(["", &line]);
    }
    if let Some(last) = status.get("last_reload").filter(|last| !last.is_null()) {
        let when = rough(number(last, "seconds_ago"));
        table.row(["last reload", &format!("{}, {when} ago", word(last, "result"))]);
        if word(last, "result") == "refused" {
            for line in word(last, "report").lines() {
                table.row(["", line]);
            }
        }
    }
    for (name, addresses) in status.get("listeners").and_then(Value::as_object).into_iter().flatten() {
        let addresses: Vec<_> = addresses.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        table.row([&format!("listener {name}"), &addresses.join(", ")]);
    }
    for one in each(status, "draining_generations") {
        let (pid, left) = (number(one, "pid"), number(one, "connections"));
        let line = match pid {
            0 => "the process that served before, which has not yet said what is left".to_owned(),
            pid => format!("pid {pid}, which served before, {left} connections left"),
        };
        table.row(["drains", &line]);
    }
    for (name, store) in status.get("stores").and_then(Value::as_object).into_iter().flatten() {
        for (key, line) in self::store(name, store) {
            table.row([&key, &line]);
        }
    }
    table.row(["connections", &number(status, "connections").to_string()]);
    table.row(["certificates", &number(status, "certificates").to_string()]);
    for held in each(status, "by_hand") {
        table.row(["by hand", &format!("{}, ends in {}", by_hand(held), rough(number(held, "ends_in_seconds")))]);
    }
    table.to_string()
}

/// Why what serves is not what the files say.
fn not_on_disk(status: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(generation) = status.get("rolled_back_to").and_then(Value::as_u64) {
        lines.push(format!("rolled back to generation {generation}, until a file changes or a reload is ordered"));
    }
    if status.get("last_good") == Some(&true.into()) {
        lines.push("the files were wrong at the start: the last good configuration serves".to_owned());
    }
    for (file, since) in status.get("held_back").and_then(Value::as_object).into_iter().flatten() {
        let since = rough(since.as_u64().unwrap_or_default());
        lines.push(format!("{file} is wrong and held back for {since}: it is read as it last was good, or left out"));
    }
    lines
}

/// A Redis; or a broker, and each queue of its messages for a pool.
fn store(name: &str, store: &Value) -> Vec<(String, String)> {
    if let Some(redis) = store.get("redis").and_then(Value::as_array) {
        let all: Vec<_> = redis.iter().filter_map(Value::as_str).collect();
        return vec![(format!("store {name}"), format!("{}, {}", word(store, "state"), all.join(", ")))];
    }
    let (topics, listeners) = (number(store, "topics"), number(store, "listeners"));
    let first =
        format!("{}, {}, {listeners} clients listen to {topics} topics", word(store, "state"), word(store, "mqtt"));
    let mut lines = vec![(format!("store {name}"), first)];
    for (forward, queue) in store.get("forward").and_then(Value::as_object).into_iter().flatten() {
        let (waiting, bytes) = (number(queue, "messages"), number(queue, "bytes"));
        let since = match number(queue, "oldest_seconds") {
            0 => String::new(),
            seconds => format!(", the oldest since {}", rough(seconds)),
        };
        let dead = match number(queue, "dead") {
            0 => String::new(),
            dead => format!(", {dead} set aside"),
        };
        let line = format!("{}, {waiting} messages wait, {bytes} bytes{since}{dead}", word(queue, "state"));
        lines.push((format!("  {forward}"), line));
    }
    lines
}

/// What is held, in words.
fn by_hand(held: &Value) -> String {
    let pool = word(held, "pool");
    if let Some(breakers) = held.get("breakers").and_then(Value::as_str) {
        return format!("pool {pool}: breakers {breakers}");
    }
    if let Some(target) = held.get("target").and_then(Value::as_str) {
        return match number(held, "weight") {
            0 => format!("pool {pool}: {target} is drained"),
            weight => format!("pool {pool}: {target} has weight {weight}"),
        };
    }
    let module = held.get("module").and_then(Value::as_str).map(|module| format!(" of {module}"));
    format!("log level {}{}", word(held, "log_level"), module.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_is_told_line_by_line() {
        let status = json!({
            "version": "0.1.0", "pid": 7, "uptime_seconds": 3600, "draining": false, "generation": 2, "hash": "aa", "hash_on_disk": "bb",
            "up_to_date": false, "listeners": { "edge": ["0.0.0.0:443", "[::]:443"] }, "connections": 3, "certificates": 1,
            "last_reload": { "seconds_ago": 60, "result": "refused", "report": "y:1:1  error  x\n" },
            "rolled_back_to": 1, "last_good": true, "held_back": { "teams/b.yaml": 600 },
            "draining_generations": [{ "pid": 5, "connections": 9 }, { "pid": 0, "connections": 0 }],
            "stores": { "shared": { "name": "shared", "state": "down", "hosts": 1, "redis": ["10.0.0.5:6379"] } },
            "by_hand": [
                { "pool": "app", "target": "a:80", "weight": 0, "ends_in_seconds": 30 },
                { "log_level": "debug", "module": "yumen::pool", "ends_in_seconds": 5 },
            ],
        });
        let expected = "running        yumen 0.1.0, pid 7, up 1h
generation     2, hash aa: the files on disk say something else (bb)
               rolled back to generation 1, until a file changes or a reload is ordered
               the files were wrong at the start: the last good configuration serves
               teams/b.yaml is wrong and held back for 10m: it is read as it last was good, or left out
last reload    refused, 1m ago
               y:1:1  error  x
listener edge  0.0.0.0:443, [::]:443
drains         pid 5, which served before, 9 connections left
drains         the process that served before, which has not yet said what is left
store shared   down, 10.0.0.5:6379
connections    3
certificates   1
by hand        pool app: a:80 is drained, ends in 30s
by hand        log level debug of yumen::pool, ends in 5s
";
        assert_eq!(told(&status), expected);
    }
}
