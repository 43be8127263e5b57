//! SRV records become instances: their hosts are looked up, their weights fitted to ours.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;

use super::dns::{Resolver, Service};
use super::{Answer, Fresh, Instance};
use crate::pool::target::MAX_WEIGHT;

/// More hosts of one service are not looked up.
const MOST_HOSTS: usize = 256;

/// The instances of the service; they hold as long as the shortest of all records.
pub(super) async fn ask(name: &str, resolver: &Resolver) -> Answer {
    let (mut services, mut holds) = resolver.services(name).await?;
    services.sort_unstable_by_key(|service| service.priority);
    services.truncate(MOST_HOSTS);
    let weights = weights(&services);
    let found = join_all(services.iter().map(|service| resolver.lookup(&service.host))).await;
    let (mut instances, mut failed) = (Vec::new(), None);
    for ((service, weight), found) in services.iter().zip(weights).zip(found) {
        match found {
            Ok((addresses, ttl)) => {
                holds = holds.min(ttl);
                instances.extend(addresses.into_iter().map(|ip| Instance {
                    priority: service.priority,
                    host: service.host.clone(),
                    address: SocketAddr::new(ip, service.port),
                    weight,
                }));
            }
            Err(why) => failed = Some(why),
        }
    }
    match failed {
        Some(why) if instances.is_empty() => Err(why),
        // Soon again for the one that is missing.
        Some(_) => Ok(Fresh { instances, holds: holds.min(Duration::from_secs(5)), index: 0 }),
        None => Ok(Fresh { instances, holds, index: 0 }),
    }
}

/// Ours end at 1000, and 0 is nobody: there it is the smallest share (RFC 2782).
fn weights(services: &[Service]) -> Vec<u16> {
    let heaviest = services.iter().map(|service| service.weight).max().unwrap_or(0);
    let some_zero = services.iter().any(|service| service.weight == 0);
    let (mut times, mut by) = (if some_zero { 10 } else { 1 }, 1);
    if u32::from(heaviest) * times > u32::from(MAX_WEIGHT) {
        (times, by) = (u32::from(MAX_WEIGHT), u32::from(heaviest));
    }
    let fitted = |service: &Service| (u32::from(service.weight) * times / by).max(1);
    services.iter().map(|service| u16::try_from(fitted(service)).unwrap_or(MAX_WEIGHT)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_keep_their_proportions_within_our_bounds() {
        let fitted = |list: &[u16]| {
            let service = |weight: &u16| Service { priority: 0, weight: *weight, port: 80, host: "a".into() };
            weights(&list.iter().map(service).collect::<Vec<_>>())
        };
        for (said, ours) in [
            (&[][..], &[][..]),
            (&[0, 0], &[1, 1]),
            (&[1, 3], &[1, 3]),
            (&[0, 1], &[1, 10]),
            (&[0, 60], &[1, 600]),
            (&[60_000, 30_000, 0], &[1000, 500, 1]),
            (&[65_535, 1], &[1000, 1]),
        ] {
            assert_eq!(fitted(said), ours, "{said:?}");
        }
    }
}
