//! Random numbers for names of requests and traces: fast, without locks or system calls, and no secret.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

thread_local! {
    /// xoshiro256++ (Blackman and Vigna): a period of 2^256, so that threads of a whole fleet never meet.
    static STATE: Cell<[u64; 4]> = Cell::new(seed());
}

/// From the operating system's randomness, with which the standard library keys its hashes; each thread its own.
fn seed() -> [u64; 4] {
    let keys = RandomState::new();
    let part = |number: u64| keys.hash_one((number, std::thread::current().id()));
    // All zero is the one state that it would never leave.
    [part(1) | 1, part(2), part(3), RandomState::new().hash_one(4)]
}

/// The next number of this thread.
pub fn next() -> u64 {
    STATE.with(|state| {
        let [mut a, mut b, mut c, mut d] = state.get();
        let number = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let shifted = b << 17;
        c ^= a;
        d ^= b;
        b ^= c;
        a ^= d;
        c ^= shifted;
        d = d.rotate_left(45);
        state.set([a, b, c, d]);
        number
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_do_not_repeat_each_other() {
        let draw = || (0..1000).map(|_| next()).collect::<Vec<_>>();
        let mut all = draw();
        all.extend(std::thread::spawn(draw).join().unwrap());
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 2000);
    }
}
