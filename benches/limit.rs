//! What it costs to ask a limit, at a few keys and at a million, and when there are more keys than room.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use yumen::policy::limit::calendar;
use yumen::policy::limit::quota::Quota;
use yumen::policy::limit::store::Cells;
use yumen::policy::limit::token_bucket::{Bucket, TokenBucket};

/// Keys that look like hashes, in an order without order.
fn key(at: u64) -> u64 {
    let mixed = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93).max(1)
}

fn asking(bench: &mut Criterion) {
    for (keys, room) in [(100_u64, 1_000_000), (1_000_000, 1_000_000), (10_000_000, 1_000_000)] {
        let cells: Arc<Cells<Bucket>> = Arc::default();
        let Some(bucket) = "1M/h".parse().ok().and_then(|rate| TokenBucket::new(rate, 100, room, cells).ok()) else {
            continue;
        };
        for at in 0..keys {
            let _ = bucket.take(key(at), 1);
        }
        let (mut at, mut now) = (0, 1);
        bench.bench_function(&format!("a token bucket, {keys} keys, room for {room}"), |bench| {
            bench.iter(|| {
                (at, now) = ((at + 7919) % keys, now + 16_000);
                black_box(bucket.take(key(at), now))
            });
        });
    }
}

fn asking_quotas(bench: &mut Criterion) {
    for (keys, room) in [(100_u64, 1_000_000), (1_000_000, 1_000_000)] {
        let Ok(number) = "1M/month".parse() else { continue };
        let quota = Quota::new(number, room, Arc::default(), None);
        for at in 0..keys {
            let _ = quota.take(key(at), calendar::now());
        }
        let mut at = 0;
        bench.bench_function(&format!("a quota, {keys} keys, room for {room}"), |bench| {
            bench.iter(|| {
                at = (at + 7919) % keys;
                black_box(quota.take(key(at), calendar::now()))
            });
        });
    }
}

criterion_group!(benches, asking, asking_quotas);
criterion_main!(benches);
