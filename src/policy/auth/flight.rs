//! One question for all who ask the same at the same time.
//!
//! Who comes first asks, the others wait for what becomes of it. Where the first one leaves before there is an answer,
//! the next one asks.

use std::sync::Arc;

use tokio::sync::OnceCell;

use super::memory::Mark;
use crate::state::Shelf;

/// Each has a lock of its own, which is held for a look into a map.
const SHARDS: usize = 16;

/// What is being asked, by the marks of the questions.
pub struct Flights<V> {
    first: Shelf<Mark, OnceCell<V>>,
    rest: Box<[Shelf<Mark, OnceCell<V>>]>,
}

impl<V> Default for Flights<V> {
    fn default() -> Self {
        Self { first: Shelf::default(), rest: (1..SHARDS).map(|_| Shelf::default()).collect() }
    }
}

impl<V> std::fmt::Debug for Flights<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flights")
    }
}

impl<V: Clone> Flights<V> {
    /// What `ask` finds out, or what another one does that asks the same already. Also whether it was asked here. A
    /// future that is large comes in a box, for it is moved about.
    pub async fn once(&self, mark: Mark, ask: impl Future<Output = V>) -> (V, bool) {
        let flight: Arc<_> = self.rest.get(mark.draw(SHARDS)).unwrap_or(&self.first).keep(mark, OnceCell::new);
        let mut mine = false;
        let asked = async {
            mine = true;
            ask.await
        };
        let value = flight.get_or_init(|| asked).await.clone();
        (value, mine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::time::Duration;
    use tokio::time::{sleep, timeout};

    async fn slow(count: &Cell<u32>) -> u32 {
        count.set(count.get() + 1);
        sleep(Duration::from_millis(30)).await;
        count.get()
    }

    #[tokio::test]
    async fn who_asks_the_same_at_the_same_time_gets_one_answer() {
        let (flights, count) = (Flights::default(), Cell::new(0));
        let ask = |name: &'static str| flights.once(Mark::of([name.as_bytes()]), slow(&count));
        let all = futures_util::future::join_all([ask("a"), ask("a"), ask("a")]).await;
        assert_eq!(all, [(1, true), (1, false), (1, false)]);
        let two = futures_util::future::join(ask("a"), ask("b")).await;
        assert_eq!((two.0.1, two.1.1, count.get()), (true, true, 3), "later is another time, and another is another");
    }

    #[tokio::test]
    async fn where_the_first_one_leaves_the_next_one_asks() {
        let (flights, count) = (Flights::default(), Cell::new(0));
        let ask = || flights.once(Mark::of([&b"a"[..]]), slow(&count));
        let first = timeout(Duration::from_millis(5), ask());
        let (left, next) = futures_util::future::join(first, ask()).await;
        assert!(left.is_err());
        assert_eq!((next, count.get()), ((2, true), 2));
    }
}
