//! How many further tries a pool may make: a share of its requests, so that a failing service is not asked twice as much.
//!
//! Each request pays a share of a token in, three tokens a second come on top, each further try takes one out, and one
//! that was answered well gives it back: a pool of which one target fails goes on without a limit, one of which all
//! fail does not. What is left over fades within some seconds, so that a quiet hour saves nothing for a loud one: ten tokens
//! remain, for the first moments of a burst.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crate::units::Share;

/// What a pool has left, for all workers and through all reloads.
#[derive(Debug)]
pub struct Budget {
    start: Instant,
    /// Milliseconds since the start in the upper half, what is left in the lower one.
    state: AtomicU64,
    made: AtomicU64,
    refused: AtomicU64,
}

/// One token, in the smallest parts that are counted.
const TOKEN: u64 = 10_000;
/// What comes in each millisecond whether or not there are requests: three tokens a second.
const FLOOR: u64 = 3 * TOKEN / 1000;
/// How long what is left over lasts, in milliseconds: in that time as much comes in as is there in quiet times.
const FADE: u64 = QUIET.div_ceil(FLOOR);
/// What there is after a while without requests: ten tokens.
const QUIET: u64 = 10 * TOKEN;

fn pack(at: u64, left: u64) -> u64 {
    (at & u64::from(u32::MAX)) << 32 | left.min(u32::MAX.into())
}

fn unpack(state: u64) -> (u64, u64) {
    (state >> 32, state & u64::from(u32::MAX))
}

impl Budget {
    pub fn new(now: Instant) -> Self {
        let state = AtomicU64::new(pack(0, FADE * FLOOR));
        Self { start: now, state, made: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    /// A request has come.
    pub fn pay(&self, share: Share, now: Instant) {
        let paid = u64::from(share.percent()) * TOKEN / 100;
        self.change(now, |left| Some(left + paid));
    }

    /// The right to one further try, if there is one left.
    pub fn take(&self, now: Instant) -> bool {
        let taken = self.change(now, |left| left.checked_sub(TOKEN));
        if !taken {
            self.refused.fetch_add(1, Relaxed);
        }
        taken
    }

    /// A further try that had taken its right was answered well, or was not made.
    pub fn give_back(&self, now: Instant) {
        self.change(now, |left| Some(left + TOKEN));
    }

    /// One further try was made, whether or not it had to take a right.
    pub fn count(&self) {
        self.made.fetch_add(1, Relaxed);
    }

    /// Further tries that were made, and those that the budget forbade.
    pub fn counts(&self) -> (u64, u64) {
        (self.made.load(Relaxed), self.refused.load(Relaxed))
    }

    /// Further tries that could be made at once.
    pub fn left(&self, now: Instant) -> u64 {
        faded(self.state.load(Relaxed), self.age(now)).1 / TOKEN
    }

    fn age(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }

    fn change(&self, now: Instant, change: impl Fn(u64) -> Option<u64>) -> bool {
        let age = self.age(now);
        let next = |state| {
            let (at, left) = faded(state, age);
            change(left).map(|left| pack(at, left))
        };
        self.state.fetch_update(Relaxed, Relaxed, next).is_ok()
    }
}

/// What is left at this age; the clock of another worker may be a little behind.
fn faded(state: u64, age: u64) -> (u64, u64) {
    let (at, left) = unpack(state);
    let passed = age.wrapping_sub(at) & u64::from(u32::MAX);
    if passed == 0 || passed > u64::from(u32::MAX / 2) {
        return (at, left);
    }
    let passed_here = passed.min(FADE);
    (age, left - left * passed_here / FADE + passed_here * FLOOR)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const FIFTH: Share = Share::from_percent(20);

    fn all(budget: &Budget, now: Instant) -> u32 {
        (0..1_000_000).take_while(|_| budget.take(now)).fold(0, |count, _| count + 1)
    }

    #[test]
    fn a_fifth_of_the_requests_and_three_a_second() {
        let start = Instant::now();
        let budget = Budget::new(start);
        assert_eq!(all(&budget, start), 10, "what it begins with");
        let mut made = 0;
        for request in 0..10_000 {
            let now = start + Duration::from_millis(request);
            budget.pay(FIFTH, now);
            made += all(&budget, now);
        }
        assert!((2000..=2030).contains(&made), "{made}");
        assert_eq!(budget.counts(), (0, 10_001));
    }

    #[test]
    fn what_is_left_over_fades() {
        let start = Instant::now();
        let budget = Budget::new(start);
        let later = |seconds: u64| start + Duration::from_secs(seconds);
        (0..100_000).for_each(|_| budget.pay(FIFTH, start));
        assert_eq!(budget.left(start), 20_010);
        assert_eq!(budget.left(later(4)), 10);
        assert_eq!(all(&budget, later(3600)), 10);
        budget.give_back(later(3600));
        assert_eq!(all(&budget, later(3600)), 1);
        assert_eq!(all(&budget, start), 0, "a clock that is behind changes nothing");
    }

    #[test]
    fn a_third_that_fails_and_is_answered_elsewhere_never_runs_out() {
        let start = Instant::now();
        let budget = Budget::new(start);
        for request in 0..30_000 {
            let now = start + Duration::from_millis(request);
            budget.pay(FIFTH, now);
            if request > 1000 && request % 3 == 0 {
                assert!(budget.take(now), "request {request}");
            }
            if request > 1100 && request % 3 == 1 {
                budget.give_back(now);
            }
        }
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let start = Instant::now();
        let budget = Budget::new(start);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| budget.pay(FIFTH, start)));
            }
        });
        assert_eq!(all(&budget, start), 8010);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_comes_when_no_more_is_spent_than_came_in(
            percent in 0_u8..=100,
            steps in prop::collection::vec((0_u64..700, 0_u32..50, 0_u32..50), 1..60),
        ) {
            let start = Instant::now();
            let (budget, share) = (Budget::new(start), Share::from_percent(percent));
            let (mut age, mut requests, mut made) = (0, 0, 0);
            for (wait, come, ask) in steps {
                age += wait;
                let now = start + Duration::from_millis(age);
                (0..come).for_each(|_| budget.pay(share, now));
                requests += come;
                made += (0..ask).filter(|_| budget.take(now)).count();
                let floor = 10.01 + 3.0 * Duration::from_millis(age).as_secs_f64();
                let most = f64::from(requests) * f64::from(percent) / 100.0 + floor;
                prop_assert!(f64::from(u32::try_from(made).unwrap()) <= most, "{made} of {most}");
                // After some seconds of rest nothing is left but the floor.
                prop_assert!(budget.left(now + Duration::from_secs(4)) <= 10);
            }
        }
    }
}
