//! How many requests of one key may be under way at the same time.

use std::sync::Arc;
use std::time::Duration;

use super::left::Left;
use super::store::{Cells, State};
use crate::exchange::Hold;

/// How many there are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count(u64);

impl State for Count {
    fn idle_at(&self) -> u64 {
        if self.0 == 0 { 0 } else { u64::MAX }
    }
}

/// The number, and the counts of all keys.
#[derive(Debug)]
pub struct InFlight {
    number: u64,
    most: usize,
    cells: Arc<Cells<Count>>,
}

/// One request that is under way; it counts until this is dropped.
#[derive(Debug)]
pub struct Held {
    cells: Arc<Cells<Count>>,
    key: u64,
    /// Whether the key has a count of its own.
    own: bool,
}

impl Hold for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        let less = |count: &mut Count| count.0 = count.0.saturating_sub(1);
        if self.own {
            self.cells.change_known(self.key, less);
        } else {
            self.cells.change_shared(self.key, less);
        }
    }
}

/// Nobody knows when a request will end.
const SOON: Duration = Duration::from_secs(1);

impl InFlight {
    pub fn new(number: u64, most: usize, cells: Arc<Cells<Count>>) -> Self {
        Self { number, most, cells }
    }

    pub fn cells(&self) -> &Cells<Count> {
        &self.cells
    }

    /// Counts a request until what is given back is dropped.
    pub fn take(&self, key: u64, now: u64) -> Result<(Left, Held), Left> {
        // A count that is not nought is never forgotten: its requests will be counted down.
        let counted = self.cells.change(
            key,
            now,
            self.most,
            |_| true,
            |count, own| {
                let may = count.0 < self.number;
                count.0 += u64::from(may);
                may.then_some((self.number - count.0, own))
            },
        );
        let (requests, own) = counted.ok_or(Left { requests: 0, reset: SOON })?;
        Ok((Left { requests, reset: SOON }, Held { cells: Arc::clone(&self.cells), key, own }))
    }

    /// How many are under way.
    pub fn used(&self, key: u64) -> u64 {
        self.cells.change_known(key, |count| count.0).unwrap_or(0)
    }

    /// Who refuses, without counting.
    pub fn peek(&self, key: u64) -> Result<(), Left> {
        let full = self.cells.change_known(key, |count| count.0 >= self.number).unwrap_or(false);
        if full { Err(Left { requests: 0, reset: SOON }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn there_are_never_more_than_the_number_and_every_end_makes_room(
            number in 1_u64..6,
            deeds in prop::collection::vec((0_u64..300, any::<bool>()), 1..600),
        ) {
            // Room for 64 keys of 300: some of them share a count.
            let limit = InFlight::new(number, 64, Arc::default());
            let mut held: HashMap<u64, Vec<Held>> = HashMap::new();
            for (key, begins) in deeds {
                let mine = held.entry(key).or_default();
                if begins {
                    let own = mine.iter().all(|held| held.own);
                    match limit.take(key + 1, 5) {
                        Ok((left, one)) => {
                            prop_assert!(left.requests < number);
                            mine.push(one);
                        }
                        Err(_) => prop_assert!(!own || mine.is_empty() || mine.len() as u64 == number),
                    }
                    prop_assert!(mine.len() as u64 <= number * 2);
                } else {
                    mine.pop();
                }
            }
            drop(held);
            prop_assert!((1..300).all(|key| limit.peek(key).is_ok()));
            let all: Vec<_> = (0..number).map(|_| limit.take(7, 6)).collect();
            prop_assert!(all.iter().all(Result::is_ok) && limit.take(7, 6).is_err());
        }
    }
}
