//! The target of a key: the first on the ring that fits and, with a bound, has not much more than its share of requests.

use super::hash::Hash;
use super::random::Random;
use super::{Bound, Key};
use crate::exchange::Request;

pub(in crate::pool) struct Keyed {
    key: Key,
    bound: Option<Bound>,
    ring: Hash,
    weights: Box<[u16]>,
    /// For requests without a key.
    keyless: Random,
}

impl Keyed {
    pub(super) fn new(key: Key, bound: Option<Bound>, targets: &[(&str, u16)], weights: &[u16]) -> Self {
        let ring = Hash::new(targets.iter().copied());
        Self { key, bound, ring, weights: weights.into(), keyless: Random::new(weights) }
    }

    /// `load` is the number of requests in flight.
    pub(super) fn choose(
        &self,
        request: &dyn Request,
        fits: impl Fn(usize) -> bool,
        load: impl Fn(usize) -> u32,
    ) -> Option<usize> {
        match &self.key {
            Key::ClientIp => match request.client().to_canonical() {
                std::net::IpAddr::V4(client) => self.place(&client.octets(), fits, load),
                std::net::IpAddr::V6(client) => self.place(&client.octets(), fits, load),
            },
            key => match key.of(request) {
                Some(key) => self.place(key, fits, load),
                None => self.keyless.choose(fits),
            },
        }
    }

    fn place(&self, key: &[u8], fits: impl Fn(usize) -> bool, load: impl Fn(usize) -> u32) -> Option<usize> {
        let Some(Bound(percent)) = self.bound else { return self.ring.choose(key, fits) };
        let weights =
            || self.weights.iter().map(|weight| u64::from(*weight)).enumerate().filter(|(place, _)| fits(*place));
        let (total, whole) =
            weights().fold((1, 0), |sum, (place, weight)| (sum.0 + u64::from(load(place)), sum.1 + weight));
        let has_room = |place: usize| {
            let weight = self.weights.get(place).copied().map_or(0, u64::from);
            // Below its share of all requests, this one counted, times the bound.
            u64::from(load(place)) * 100 * whole < u64::from(percent) * total * weight
        };
        self.ring.choose(key, |place| fits(place) && has_room(place)).or_else(|| self.ring.choose(key, fits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::asked::Asked;

    fn keyed(weights: &[u16], bound: Option<Bound>) -> Keyed {
        let names: Vec<_> = (0..weights.len()).map(|index| format!("10.0.0.{index}:80")).collect();
        let targets: Vec<_> = names.iter().map(String::as_str).zip(weights.iter().copied()).collect();
        Keyed::new(Key::ClientIp, bound, &targets, weights)
    }

    /// A thousand requests of one client, none of which ends.
    fn loads(weights: &[u16], bound: Option<Bound>) -> Vec<u32> {
        let (keyed, mut loads) = (keyed(weights, bound), vec![0; weights.len()]);
        for _ in 0..1000 {
            let place = keyed.choose(&Asked::from_client("10.0.0.9"), |_| true, |place| loads[place]).unwrap();
            loads[place] += 1;
        }
        loads
    }

    #[test]
    fn a_hot_key_fills_its_target_up_to_the_bound_and_goes_on_to_the_next() {
        let mut free = loads(&[1, 1, 1, 1], None);
        free.sort_unstable();
        assert_eq!(free, [0, 0, 0, 1000]);
        let bound = loads(&[1, 1, 1, 1], Some(Bound(125)));
        assert!(bound.iter().all(|load| *load <= 313) && bound.contains(&313), "{bound:?}");
        let weighted = loads(&[1, 3], Some(Bound(110)));
        assert!(weighted[0] <= 275 && weighted[1] <= 825, "{weighted:?}");
    }

    #[test]
    fn an_idle_pool_keeps_its_keys_and_those_out_count_for_nothing() {
        let (free, bound) = (keyed(&[1; 5], None), keyed(&[1; 5], Some(Bound(125))));
        for client in 0..100 {
            let ask = Asked::from_client(&format!("10.0.1.{client}"));
            let fits = |place| place != 2;
            assert_eq!(free.choose(&ask, fits, |_| 0), bound.choose(&ask, fits, |_| 0));
            assert!(bound.choose(&ask, |place| place == 3, |_| 50) == Some(3), "the only one there is takes it");
        }
    }
}
