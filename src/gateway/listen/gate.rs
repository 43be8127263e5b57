//! How many connections there are, in all and by client address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::listener::Limits;

const SHARDS: usize = 16;

/// The counts of one listener.
#[derive(Debug, Default)]
pub(super) struct Gate {
    all: AtomicUsize,
    by_address: [Mutex<HashMap<Client, usize>>; SHARDS],
    hasher: RandomState,
}

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

impl Gate {
    pub(super) fn count(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// Lets one connection in, unless the listener is full.
    pub(super) fn enter(self: &Arc<Self>, limits: &Limits) -> Option<Permit> {
        let before = self.all.fetch_add(1, Ordering::Relaxed);
        let permit = Permit { gate: self.clone(), client: None };
        (before < limits.connections).then_some(permit)
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
}

impl Permit {
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
