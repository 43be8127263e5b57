//! Documents that are large on purpose: forty thousand objects are read at once, and what is too much is refused at once.

use std::fmt::Write;
use std::time::{Duration, Instant};

use yumen::config::Loaded;

/// Without optimisation, on a busy machine: far above what a release needs, far below what a bad algorithm takes.
const PATIENCE: Duration = Duration::from_mins(1);

fn forty_thousand() -> String {
    let mut text =
        "version: 1\nlisteners: { web: { bind: 8080 } }\ndefaults: { pool: { health: { http: /healthz } } }\npools:\n"
            .to_owned();
    for n in 0..20_000 {
        writeln!(text, "  pool-{n}:\n    targets: [10.0.{}.{}:8080, {{ at: app-{n}.internal:80, weight: 2 }}]\n    timeout: {{ connect: 1s }}", n / 250, n % 250).unwrap();
    }
    text.push_str("routes:\n");
    for n in 0..20_000 {
        writeln!(text, "  route-{n}:\n    match: {{ methods: [GET], host: api.example.com, path: /v{n}/* }}\n    to: pool-{n}\n    request: {{ set: {{ x-route: route-{n} }} }}").unwrap();
    }
    text
}

#[test]
fn forty_thousand_objects_are_read_at_once() {
    let text = forty_thousand();
    let start = Instant::now();
    let loaded = Loaded::from_text("large", &text);
    let took = start.elapsed();
    println!("{} bytes in {took:?}", text.len());
    assert_eq!(loaded.problems.iter().collect::<Vec<_>>(), Vec::<&yumen::problem::Problem>::new());
    assert_eq!(loaded.document.pools.len() + loaded.document.routes.len(), 40_000);
    assert!(took < PATIENCE, "{took:?}");
}

#[test]
fn as_many_complaints_take_no_longer() {
    let text = forty_thousand().replace("to: pool-", "to: pol-").replace("connect: 1s", "connect: 1");
    let start = Instant::now();
    let loaded = Loaded::from_text("large", &text);
    let report = yumen::config::report::human(&loaded.problems, &loaded.places);
    let took = start.elapsed();
    println!("{} bytes of report in {took:?}", report.len());
    assert_eq!(loaded.problems.errors(), 40_000);
    assert!(took < PATIENCE, "{took:?}");
}

#[test]
fn a_value_without_end_is_not_repeated_without_end() {
    let word = "x".repeat(8 << 20);
    let text = format!(
        "version: 1\nlisteners: {{ web: {{ bind: {word} }} }}\nobserve: {{ log: {{ level: {word} }} }}\nroutes: {{ all: {{ match: /*, to: {word} }} }}\n"
    );
    let start = Instant::now();
    let loaded = Loaded::from_text("large", &text);
    let report = yumen::config::report::human(&loaded.problems, &loaded.places);
    assert!(loaded.problems.errors() >= 3 && report.len() < 10_000, "{}", report.len());
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn a_document_that_is_nothing_but_values_ends_at_the_budget() {
    let text = format!("a: [{}]\n", "1,".repeat(4_000_000));
    let start = Instant::now();
    let loaded = Loaded::from_text("large", &text);
    let said: Vec<_> = loaded.problems.iter().map(|problem| problem.sentence.clone()).collect();
    assert_eq!(said, ["the document is too large: more than 3000000 values"]);
    assert!(start.elapsed() < PATIENCE);
}
