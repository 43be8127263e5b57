//! What it costs to find a route, to make a path canonical, and to take a turn.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use yumen::canonical;
use yumen::policy::guard::Tools;
use yumen::problem::{Path, Problems};
use yumen::route::split::Turns;
use yumen::route::{Config, Found, Params, Pools, Question, Route, Table};
use yumen::telemetry::counted::Counted;

/// A tenth each of exact paths, templates and hosts of their own; the rest are prefixes.
fn table(count: usize) -> Table {
    let mut problems = Problems::default();
    let route = |at: usize| -> Option<Arc<Route>> {
        let place = match at % 10 {
            0 => format!("/exact/service-{at}/status"),
            1 => format!("/api/service-{at}/:id/items"),
            2 => format!("tenant-{at}.example.com/home/*"),
            _ => format!("api.example.com/api/service-{at}/*"),
        };
        let config: Config = serde_json::from_value(serde_json::json!({ "match": place, "respond": 204 })).ok()?;
        let (name, mut problems) = (format!("r{at}").parse().ok()?, Problems::default());
        let place = |_: &Path| "yumen.yaml:1:1".to_owned();
        let auth = std::collections::BTreeMap::new();
        let tools = Tools::alone(&place, &auth);
        let (pools, counted) = (Pools::new(), Counted::default());
        Route::compile(&name, &config, &Path::default(), &pools, counted, &tools, &mut problems)
    };
    let routes: Vec<Arc<Route>> = (0..count).rev().filter_map(route).collect();
    let table = Table::compile(&routes, &mut problems);
    assert!(problems.is_empty() && routes.len() == count);
    table
}

fn routing(bench: &mut Criterion) {
    for count in [1, 100, 10_000] {
        let (table, at) = (table(count), count / 2);
        let mut urls = vec![("exact", format!("/exact/service-{}/status", at / 10 * 10))];
        if count > 1 {
            let base = at / 10 * 10;
            urls.push(("template", format!("/api/service-{}/7/items", base + 1)));
            urls.push(("host", format!("tenant-{}.example.com/home/x", base + 2)));
            urls.push(("prefix", format!("api.example.com/api/service-{}/a/b/c", base + 3)));
        }
        for (kind, url) in urls {
            let question = Question::new("GET", &url).unwrap_or_else(|fault| unreachable!("{fault}"));
            let mut params = Params::default();
            assert!(matches!(table.find(&question, &mut params), Found::Route(_)), "{url}");
            bench.bench_function(&format!("route/{kind}/{count}"), |b| {
                b.iter(|| matches!(table.find(black_box(&question), &mut params), Found::Route(_)));
            });
        }
    }
}

fn compiling(bench: &mut Criterion) {
    bench.bench_function("route/compile/10000", |b| b.iter(|| table(10_000)));
}

fn paths(bench: &mut Criterion) {
    for (kind, path) in [("plain", "/api/service-17/orders/4711/items"), ("escaped", "/api/service%2D17/./caf%c3%a9")] {
        bench.bench_function(&format!("canonical/{kind}"), |b| {
            b.iter(|| canonical::path(black_box(path.as_bytes())).is_ok());
        });
    }
    bench.bench_function("canonical/host", |b| b.iter(|| canonical::host(black_box("api.example.com:8443")).is_ok()));
}

fn turns(bench: &mut Criterion) {
    let turns = Turns::new(&[90, 10]);
    bench.bench_function("split/90-10", |b| b.iter(|| turns.next()));
}

criterion_group!(benches, routing, compiling, paths, turns);
criterion_main!(benches);
