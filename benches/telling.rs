//! What telling of a request costs it: counting, naming, and its access line.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use http::Method;
use yumen::telemetry::access::{AccessLog, Config, Destination, Entry, Format, Timings};
use yumen::telemetry::metrics::Metrics;
use yumen::telemetry::trace::{Rate, RequestId, Trace};
use yumen::units::Share;

const TRACEPARENT: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn entry() -> Entry<'static> {
    Entry {
        time: SystemTime::now(),
        request_id: "019a9f2c-8d00-7000-8000-000000000001",
        part_of: None,
        trace_id: "0af7651916cd43dd8448eb211c80319c",
        listener: "edge",
        route: Some("orders"),
        method: "GET",
        host: b"api.example.com",
        path: b"/orders/42/items",
        query: None,
        protocol: "HTTP/1.1",
        status: 200,
        bytes_in: 0,
        bytes_out: 1024,
        user_agent: Some(b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        referer: None,
        client: IpAddr::from([203, 0, 113, 7]),
        pool: Some("orders"),
        target: Some("10.0.0.11:8080"),
        tries: 1,
        retried_after: None,
        not_retried: None,
        consumer: None,
        rule: None,
        operation: None,
        would_refuse: None,
        cache: None,
        tunnel: None,
        calls: None,
        reason: None,
        detail: None,
        timings: Timings {
            queue: None,
            total: Duration::from_micros(12_345),
            upstream: Some(Duration::from_micros(12_005)),
            first_byte: Some(Duration::from_micros(11_900)),
            connect: None,
        },
    }
}

fn telling(criterion: &mut Criterion) {
    let Ok(metrics) = Metrics::new() else { return };
    let route = metrics.route("edge", "orders");
    let pool = metrics.pool("orders");
    criterion.bench_function("metrics/route", |bench| {
        bench.iter(|| route.count(black_box(&Method::GET), black_box(200), 0.0123, 0.000_04));
    });
    criterion.bench_function("metrics/pool", |bench| bench.iter(|| pool.count(black_box(Some(200)), 0.0123)));
    criterion.bench_function("metrics/in flight", |bench| bench.iter(|| route.begin()));
    criterion.bench_function("request id", |bench| bench.iter(|| RequestId::new(black_box(SystemTime::UNIX_EPOCH))));
    criterion.bench_function("trace/started", |bench| bench.iter(|| Trace::of(black_box(None)).traceparent(1)));
    criterion.bench_function("trace/continued", |bench| {
        bench.iter(|| Trace::of(black_box(Some(TRACEPARENT))).traceparent(1));
    });
    let rate = Rate::of(Share::from_percent(0));
    criterion.bench_function("trace/started, told of, not kept", |bench| {
        bench.iter(|| {
            let mut trace = Trace::of(black_box(None));
            trace.tell(black_box(rate), true);
            (trace.traceparent(1), trace.is_sampled())
        });
    });
    let entry = entry();
    for (name, format) in [("json", Format::Json), ("combined", Format::Combined)] {
        criterion.bench_function(&format!("line/{name}"), |bench| {
            let mut line = Vec::new();
            bench.iter(|| {
                line.clear();
                black_box(&entry).write(&mut line, format, false);
            });
        });
    }
    let to = Config { to: Destination::File("/dev/null".into()), ..Config::default() };
    if let Ok(log) = AccessLog::open(&to, metrics.access_log_dropped()) {
        criterion.bench_function("access log/json to /dev/null", |bench| bench.iter(|| log.write(black_box(&entry))));
        eprintln!("lines dropped: {}", metrics.access_log_dropped().get());
    }
}

criterion_group!(benches, telling);
criterion_main!(benches);
