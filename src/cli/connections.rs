//! `yumen connections`: who is connected to the running gateway, and how it is connected to its targets.

use std::fmt::Write;

use serde_json::Value;

use super::Exit;
use super::door::{View, each, each_of, number, word};
use super::table::Table;

pub(super) fn run(view: &View) -> Exit {
    view.show("/connections", told)
}

fn told(page: &Value) -> String {
    let mut listeners = Table::new(["listener", "open", "h1", "h2", "handshaking", "by age"]);
    for one in each(page, "listeners") {
        let count = |key: &str| number(one, key).to_string();
        let ages = pairs(one, "ages", " ");
        listeners.row([
            word(one, "listener"),
            &count("open"),
            &count("h1"),
            &count("h2"),
            &count("handshaking"),
            &ages,
        ]);
    }
    let mut text = listeners.to_string();
    for one in each(page, "listeners") {
        let clients = pairs(one, "clients", " has ");
        if !clients.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "of {}: {clients}", word(one, "listener"));
        }
    }
    let (requests, websockets) = (number(page, "requests"), number(page, "websockets"));
    let _ = writeln!(text, "{requests} requests under way, {websockets} WebSockets open\n");
    let mut upstream = Table::new(["pool", "target", "in flight", "kept"]);
    for one in each(page, "upstream") {
        let (in_flight, kept) = (number(one, "in_flight").to_string(), number(one, "kept").to_string());
        upstream.row([word(one, "pool"), word(one, "target"), &in_flight, &kept]);
    }
    text + &upstream.to_string()
}

/// Words with their numbers, but those of which there are none.
fn pairs(value: &Value, key: &str, between: &str) -> String {
    let pair = |pair: &Value| {
        let (name, count) = (pair.get(0)?.as_str()?, pair.get(1)?.as_u64()?);
        (count > 0).then(|| format!("{name}{between}{count}"))
    };
    value.get(key).map(|list| each_of(list).filter_map(pair).collect::<Vec<_>>().join(", ")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_sides_are_told() {
        let page = json!({
            "listeners": [{
                "listener": "edge", "open": 3, "h1": 1, "h2": 1, "handshaking": 1,
                "ages": [["10s", 2], ["1m", 0], ["older", 1]], "clients": [["10.0.0.1", 2], ["2001:db8::/64", 1]],
            }],
            "requests": 2, "websockets": 1,
            "upstream": [{ "pool": "app", "target": "10.1.0.1:80", "in_flight": 2, "kept": 5 }],
        });
        let expected = "LISTENER  OPEN  H1  H2  HANDSHAKING  BY AGE
edge         3   1   1            1  10s 2, older 1
of edge: 10.0.0.1 has 2, 2001:db8::/64 has 1
2 requests under way, 1 WebSockets open

POOL  TARGET       IN FLIGHT  KEPT
app   10.1.0.1:80          2     5
";
        assert_eq!(told(&page), expected);
    }
}
