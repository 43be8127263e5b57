//! What it costs to ask a guard.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use yumen::policy::networks::Networks;

/// `count` networks, a tenth of them IPv6, spread over all prefix lengths that lists have.
fn networks(count: u32) -> Networks<bool> {
    let network = |at: u32| -> IpNet {
        // Spread without a pattern that a cache could like.
        let mixed = at.wrapping_mul(0x9e37_79b9);
        let length = u8::try_from(12 + mixed % 21).unwrap_or(32);
        if at.is_multiple_of(10) {
            let address = (0x2001_0db8_u128 << 96) | (u128::from(mixed) << 64);
            Ipv6Net::new_assert(address.into(), 32 + length).trunc().into()
        } else {
            Ipv4Net::new_assert(mixed.into(), length).trunc().into()
        }
    };
    (0..count).map(|at| (network(at), at % 3 == 0)).collect()
}

fn addresses(bench: &mut Criterion) {
    let networks = networks(100_000);
    let mut at = 0_u32;
    bench.bench_function("ip/v4/100000", |b| {
        b.iter(|| {
            at = at.wrapping_add(0x6c07_8965);
            black_box(networks.longest(std::net::Ipv4Addr::from(at).into())).is_some()
        });
    });
    bench.bench_function("ip/v6/100000", |b| {
        b.iter(|| {
            at = at.wrapping_add(0x6c07_8965);
            let address = (0x2001_0db8_u128 << 96) | (u128::from(at) << 64) | 7;
            black_box(networks.longest(std::net::Ipv6Addr::from(address).into())).is_some()
        });
    });
}

criterion_group!(benches, addresses);
criterion_main!(benches);
