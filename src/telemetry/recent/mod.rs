//! The last requests that went wrong, each as one page, for `why`: bounded in number and bytes, and no good request pays.
//!
//! Each worker keeps its own, so that none waits for another. What clients did wrong and what went wrong behind us lie
//! apart: a flood of the first pushes nothing of the second out.

mod page;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::Value;

pub use page::{Attempt, Call, End, Guard, Named, Out, Page, Said, Times};

use crate::fault::{Fault, Whose};

/// What all pages together take, and how many of them there are, at most.
const MOST_BYTES: usize = 4 << 20;
const MOST_PAGES: usize = 8192;
/// What a page costs beside its text.
const OVERHEAD: usize = 128;
/// A page whose request was that long says less: it is left out.
const LONGEST: usize = 16 << 10;

/// Where requests leave their pages, through all reloads.
pub struct Recent {
    shards: Box<[Shard]>,
    most_bytes: usize,
    most_pages: usize,
}

/// What one worker keeps.
#[derive(Default)]
struct Shard {
    refused: Mutex<Pages>,
    failed: Mutex<Pages>,
}

/// The oldest first.
#[derive(Default)]
struct Pages {
    kept: VecDeque<Kept>,
    bytes: usize,
    /// Some had to go.
    lost: bool,
}

struct Kept {
    id: Box<str>,
    time: SystemTime,
    page: Box<[u8]>,
}

/// How far back the pages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    pub kept: usize,
    /// All those since then are there; nothing where none had to go yet.
    pub since: Option<SystemTime>,
}

thread_local! {
    /// Which shard is this thread's.
    static MINE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed)
    };
}

impl Recent {
    pub fn new(workers: usize) -> Self {
        Self::within(workers, MOST_BYTES, MOST_PAGES)
    }

    fn within(workers: usize, bytes: usize, pages: usize) -> Self {
        let workers = workers.max(1);
        let shards = (0..workers).map(|_| Shard::default()).collect();
        // Each shard has two halves.
        Self { shards, most_bytes: bytes / workers / 2, most_pages: (pages / workers / 2).max(1) }
    }

    /// Keeps a page, in place of the oldest ones of its kind where there is no room.
    pub fn keep(&self, page: &Page<'_>) {
        let Ok(text) = serde_json::to_vec(page) else { return };
        let theirs = page.fault.is_some_and(|fault| fault.row().whose == Whose::Client && fault != Fault::ClientGone);
        let at = MINE.with(|mine| mine % self.shards.len().max(1));
        let Some(shard) = self.shards.get(at).filter(|_| text.len() <= LONGEST) else { return };
        let half = if theirs { &shard.refused } else { &shard.failed };
        let kept = Kept { id: page.request_id.into(), time: page.time.0, page: text.into() };
        half.lock().unwrap_or_else(PoisonError::into_inner).push(kept, self.most_bytes, self.most_pages);
    }

    /// The pages of the requests with this id, the newest first: who names requests may name several the same.
    pub fn of(&self, id: &str) -> Vec<(SystemTime, Value)> {
        self.newest(usize::MAX, |kept| *kept.id == *id)
    }

    /// So many pages, the newest first.
    pub fn last(&self, most: usize) -> Vec<(SystemTime, Value)> {
        self.newest(most, |_| true)
    }

    fn newest(&self, most: usize, meant: impl Fn(&Kept) -> bool) -> Vec<(SystemTime, Value)> {
        let mut found: Vec<(SystemTime, Box<[u8]>)> = Vec::new();
        self.each(|pages| {
            let meant = pages.kept.iter().rev().filter(|kept| meant(kept)).take(most);
            found.extend(meant.map(|kept| (kept.time, kept.page.clone())));
        });
        found.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
        found.truncate(most);
        let read = |(time, page): (SystemTime, Box<[u8]>)| Some((time, serde_json::from_slice(&page).ok()?));
        found.into_iter().filter_map(read).collect()
    }

    pub fn reach(&self) -> Reach {
        let mut reach = Reach { kept: 0, since: None };
        self.each(|pages| {
            reach.kept += pages.kept.len();
            let oldest = pages.kept.front().filter(|_| pages.lost).map(|kept| kept.time);
            reach.since = reach.since.max(oldest);
        });
        reach
    }

    fn each(&self, mut look: impl FnMut(&Pages)) {
        for half in self.shards.iter().flat_map(|shard| [&shard.refused, &shard.failed]) {
            look(&half.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl Pages {
    fn push(&mut self, kept: Kept, most_bytes: usize, most_pages: usize) {
        self.bytes += kept.cost();
        self.kept.push_back(kept);
        while self.bytes > most_bytes || self.kept.len() > most_pages {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.cost();
            self.lost = true;
        }
    }
}

impl Kept {
    fn cost(&self) -> usize {
        self.id.len() + self.page.len() + OVERHEAD
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    fn keep(recent: &Recent, id: &str, fault: Fault, second: u64) {
        let page = Page { request_id: id, fault: Some(fault), time: Said(at(second)), ..Page::default() };
        recent.keep(&page);
    }

    #[test]
    fn pages_are_found_by_their_id_and_by_their_age() {
        let recent = Recent::new(1);
        keep(&recent, "a", Fault::RouteNone, 1);
        keep(&recent, "b", Fault::UpstreamReset, 2);
        keep(&recent, "a", Fault::LimitRate, 3);
        let of_a: Vec<_> = recent.of("a").into_iter().map(|(_, page)| page["code"].clone()).collect();
        assert_eq!(of_a, ["limit.rate", "route.none"]);
        let last: Vec<_> = recent.last(2).into_iter().map(|(time, _)| time).collect();
        assert_eq!(last, [at(3), at(2)]);
        assert_eq!(recent.reach(), Reach { kept: 3, since: None });
        assert!(recent.of("c").is_empty());
    }

    #[test]
    fn they_are_bounded_and_a_flood_of_one_kind_leaves_the_other() {
        let recent = Recent::within(1, 1 << 20, 20);
        keep(&recent, "rare", Fault::UpstreamReset, 1);
        (2..1002).for_each(|second| keep(&recent, "flood", Fault::RouteNone, second));
        assert_eq!(recent.of("rare").len(), 1, "refusals of clients push no failure out");
        assert_eq!(recent.reach(), Reach { kept: 11, since: Some(at(992)) });
        let narrow = Recent::within(1, 2000, 1000);
        (0..100).for_each(|second| keep(&narrow, "flood", Fault::RouteNone, second));
        let all: usize = narrow.last(100).iter().map(|(_, page)| page.to_string().len()).sum();
        assert!((1..1000).contains(&all), "{all} bytes");
    }
}
