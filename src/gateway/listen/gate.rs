//! How many connections there are, in all and by client address.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::crowd::{Crowd, Crowded, Speaks};
use crate::listener::Limits;

const SHARDS: usize = 16;

/// The counts of one listener.
#[derive(Debug, Default)]
pub(super) struct Gate {
    all: AtomicUsize,
    by_address: [Mutex<HashMap<Client, usize>>; SHARDS],
    hasher: RandomState,
    crowd: Crowd,
}

/// So many clients are named.
const TOP: usize = 10;

/// One client: an IPv4 address, or the network of 64 bits that an IPv6 client has to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Client {
    V4(u32),
    V6(u64),
}

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6(u64::try_from(v6.to_bits() >> 64).unwrap_or_default()),
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => Ipv4Addr::from_bits(*address).fmt(f),
            Self::V6(network) => write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(*network) << 64)),
        }
    }
}

impl Gate {
    pub(super) fn count(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// Lets one connection in, unless the listener is full.
    pub(super) fn enter(self: &Arc<Self>, limits: &Limits) -> Option<Permit> {
        let before = self.all.fetch_add(1, Ordering::Relaxed);
        let born = self.crowd.came(Instant::now());
        let permit = Permit { gate: self.clone(), client: None, born, speaks: None };
        (before < limits.connections).then_some(permit)
    }

    /// Who is there, the clients with the most connections by name.
    pub(super) fn crowded(&self, listener: &str, now: Instant) -> Crowded {
        let mut clients: Vec<(Client, usize)> = Vec::new();
        for shard in &self.by_address {
            let counts = shard.lock().unwrap_or_else(PoisonError::into_inner);
            clients.extend(counts.iter().map(|(client, count)| (*client, *count)));
        }
        clients.sort_by_key(|(client, count)| (Reverse(*count), client.to_string()));
        let (open, h1, h2) = (self.count(), self.crowd.speaking(Speaks::H1), self.crowd.speaking(Speaks::H2));
        Crowded {
            listener: listener.to_owned(),
            open,
            h1,
            h2,
            handshaking: open.saturating_sub(h1 + h2),
            ages: self.crowd.ages(now),
            clients: clients.into_iter().take(TOP).map(|(client, count)| (client.to_string(), count)).collect(),
        }
    }

    fn shard(&self, client: Client) -> &Mutex<HashMap<Client, usize>> {
        let [first, ..] = &self.by_address;
        let index = usize::try_from(self.hasher.hash_one(client) >> 32).unwrap_or_default() % SHARDS;
        self.by_address.get(index).unwrap_or(first)
    }
}

/// One connection that was let in; leaving gives the place back.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Arc<Gate>,
    client: Option<Client>,
    /// When it came, as the gate counts.
    born: u64,
    speaks: Option<Speaks>,
}

impl Permit {
    /// It is known now what the connection speaks.
    pub(super) fn speaks(&mut self, what: Speaks) {
        self.gate.crowd.speaks(self.speaks.replace(what), Some(what));
    }

    /// Counts the connection for its client; whether there was room.
    pub(super) fn admit(&mut self, address: IpAddr, limits: &Limits) -> bool {
        let client = Client::from(address);
        let mut counts = self.gate.shard(client).lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(client).or_insert(0);
        if *count >= limits.per_address {
            return false;
        }
        *count += 1;
        drop(counts);
        self.client = Some(client);
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.all.fetch_sub(1, Ordering::Relaxed);
        self.gate.crowd.left(self.born);
        self.gate.crowd.speaks(self.speaks, None);
        let Some(client) = self.client else { return };
        let mut counts = self.gate.shard(client).lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = counts.entry(client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_and_given_back() {
        let gate = Arc::new(Gate::default());
        let limits = Limits { connections: 3, per_address: 1, ..Limits::default() };
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut one = gate.enter(&limits).unwrap();
        assert!(one.admit(address("10.0.0.1"), &limits));
        let mut two = gate.enter(&limits).unwrap();
        assert!(!two.admit(address("::ffff:10.0.0.1"), &limits), "a mapped address is the address");
        assert!(two.admit(address("2001:db8::1"), &limits));
        let mut three = gate.enter(&limits).unwrap();
        assert!(!three.admit(address("2001:db8::2"), &limits), "one /64 is one client");
        assert!(three.admit(address("2001:db8:0:1::2"), &limits));
        assert!(gate.enter(&limits).is_none());
        drop((one, two, three));
        assert_eq!(gate.count(), 0);
        assert!(gate.by_address.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }
}
