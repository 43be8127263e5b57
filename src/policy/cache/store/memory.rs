//! Answers in the memory of this process, bounded by bytes at every moment.
//!
//! An eighth of the bytes is for bodies that are on their way; the rest is for whole answers. A body that finds no room
//! there is passed on and not kept. What is to go for a new answer is moka's choice (`TinyLFU`), made before the room that
//! the new one had on its way is given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant, SystemTime};

use moka::Expiry;
use moka::sync::Cache;

use super::marks::{Address, Label, Marks, Place};
use super::{Id, Looked, Object};
use crate::telemetry::metrics::CacheMetrics;

/// The objects of one store.
pub struct Memory {
    objects: Cache<Id, Arc<Object>>,
    marks: Marks,
    /// Some of them are known by less than their whole address.
    by_path: AtomicBool,
    by_host: AtomicBool,
    /// Bytes on their way, and how many there may be.
    filling: AtomicU64,
    for_fills: u64,
    metrics: CacheMetrics,
}

/// Objects that can be of no more use make room.
struct Lives;

impl Expiry<Id, Arc<Object>> for Lives {
    fn expire_after_create(&self, _: &Id, object: &Arc<Object>, _: Instant) -> Option<Duration> {
        Some(object.lives(SystemTime::now()))
    }
    fn expire_after_update(&self, _: &Id, object: &Arc<Object>, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(object.lives(SystemTime::now()))
    }
}

impl Memory {
    pub(super) fn new(bytes: u64, metrics: CacheMetrics) -> Self {
        let for_fills = bytes / 8;
        let objects = Cache::builder()
            .max_capacity(bytes - for_fills)
            .weigher(|_, object: &Arc<Object>| u32::try_from(object.weight()).unwrap_or(u32::MAX))
            .expire_after(Lives)
            .build();
        let (by_path, by_host) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { objects, marks: Marks::default(), by_path, by_host, filling: AtomicU64::new(0), for_fills, metrics }
    }

    pub(super) fn for_fills(&self) -> u64 {
        self.for_fills
    }

    pub(super) fn look(&self, id: &Id) -> Looked {
        // The time first: what is purged after it reaches what is asked for now.
        let at = self.marks.now();
        let object = self.objects.get(id).filter(|object| {
            let is_void = self.marks.are_later(&object.labels, object.since);
            if is_void {
                self.objects.invalidate(id);
            }
            !is_void
        });
        Looked { object, at: Some(at) }
    }

    pub(super) fn put(&self, id: Id, object: Object) {
        let is_of_use = !object.lives(SystemTime::now()).is_zero();
        if is_of_use && object.weight() <= self.for_fills {
            self.objects.insert(id, Arc::new(object));
            self.settle();
        }
    }

    pub(super) fn purge(&self, labels: &[Label]) {
        for label in labels {
            self.marks.mark(*label);
        }
        for (id, object) in &self.objects {
            if labels.iter().any(|label| object.labels.contains(&label.slot())) {
                self.objects.invalidate(&*id);
            }
        }
        self.settle();
        self.metrics.purged();
    }

    /// What nothing here is known by takes no mark, which might be that of something else.
    pub(super) fn forget(&self, addresses: &[Address]) {
        let (by_path, by_host) = (self.by_path.load(Relaxed), self.by_host.load(Relaxed));
        for (place, label) in addresses.iter().flatten() {
            let is_used = match place {
                Place::Address => true,
                Place::Path => by_path,
                Place::Host => by_host,
            };
            if is_used {
                self.marks.mark(*label);
            }
        }
    }

    /// Answers are kept by so much of their address.
    pub(super) fn keeps(&self, place: Place) {
        match place {
            Place::Address => {}
            Place::Path => self.by_path.store(true, Relaxed),
            Place::Host => self.by_host.store(true, Relaxed),
        }
    }

    pub(super) fn take_room(&self, bytes: u64) -> bool {
        let more = |held: u64| held.checked_add(bytes).filter(|held| *held <= self.for_fills);
        self.filling.fetch_update(SeqCst, SeqCst, more).is_ok()
    }

    pub(super) fn give_room(&self, bytes: u64) {
        self.filling.fetch_sub(bytes, SeqCst);
    }

    /// Bytes in use.
    fn held(&self) -> u64 {
        self.objects.weighted_size() + self.filling.load(SeqCst)
    }

    /// What has to go goes now.
    fn settle(&self) {
        self.objects.run_pending_tasks();
        self.metrics.show(self.objects.entry_count(), self.held());
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("objects", &self.objects.entry_count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::object;
    use super::*;
    use crate::telemetry::metrics::Metrics;

    const MIB: u64 = 1 << 20;

    fn memory(bytes: u64) -> Memory {
        Memory::new(bytes, Metrics::new().unwrap().cache("pages"))
    }

    fn id(number: u64) -> Id {
        u128::from(number).to_le_bytes()
    }

    #[test]
    fn a_hundred_thousand_objects_stay_within_the_bytes_at_every_moment() {
        let (most, ended) = (16 * MIB, AtomicBool::new(false));
        let memory = memory(most);
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut highest = 0;
                while !ended.load(SeqCst) {
                    highest = highest.max(memory.held());
                }
                highest
            });
            let fill = |from: u64| {
                for number in from..from + 25_000 {
                    let object = object(usize::try_from(number % 4096).unwrap(), 60);
                    let room = object.weight();
                    assert!(memory.take_room(room), "four fills find room");
                    memory.put(id(number), object);
                    memory.give_room(room);
                }
            };
            let fills: Vec<_> = (0..4).map(|at| scope.spawn(move || fill(at * 25_000))).collect();
            for fill in fills {
                fill.join().unwrap();
            }
            ended.store(true, SeqCst);
            let highest = watch.join().unwrap();
            assert!(highest <= most && highest > most / 2, "{highest}");
        });
        assert_eq!(memory.filling.load(SeqCst), 0);
        let (bytes, real): (u64, u64) = (memory.held(), memory.objects.iter().map(|(_, object)| object.weight()).sum());
        assert_eq!(bytes, real, "what it says it holds is what it holds");
    }

    #[test]
    fn a_body_that_finds_no_room_is_not_kept() {
        let memory = memory(8 * MIB);
        assert!(memory.take_room(MIB) && !memory.take_room(1));
        memory.give_room(MIB);
        assert!(memory.take_room(1));
        memory.put(id(1), object(usize::try_from(2 * MIB).unwrap(), 60));
        assert!(memory.look(&id(1)).object.is_none());
    }

    #[test]
    fn what_is_of_no_use_takes_no_room() {
        let memory = memory(8 * MIB);
        memory.put(id(1), Object { times: super::super::tests::times(0), ..object(10, 0) });
        memory.put(id(2), object(10, 60));
        memory.settle();
        assert_eq!(memory.objects.entry_count(), 1);
        assert!(memory.look(&id(2)).object.is_some());
    }

    #[test]
    fn a_purge_frees_memory_and_reaches_what_is_on_its_way() {
        let memory = memory(8 * MIB);
        let (tag, other) = (Label::tag(b"a"), Label::tag(b"b"));
        let labelled = |label: Label, since| Object { labels: [label.slot()].into(), since, ..object(10, 60) };
        let asked = memory.look(&id(3)).at.unwrap();
        memory.put(id(1), labelled(tag, asked));
        memory.put(id(2), labelled(other, asked));
        memory.purge(&[tag]);
        assert_eq!(memory.objects.entry_count(), 1);
        memory.put(id(3), labelled(tag, asked));
        assert!(memory.look(&id(3)).object.is_none(), "asked for before the purge");
        assert!(memory.look(&id(2)).object.is_some());
        memory.put(id(3), labelled(tag, memory.look(&id(3)).at.unwrap()));
        assert!(memory.look(&id(3)).object.is_some(), "asked for after it");
    }

    #[test]
    fn what_is_known_by_its_path_is_forgotten_with_all_that_begins_with_that() {
        let memory = memory(8 * MIB);
        let places = [Place::Address, Place::Path, Place::Host];
        let label = |place| Label::at(place, "a", "/x", Some("q=1"));
        for (number, place) in (0..).zip(places) {
            memory.keeps(place);
            let since = memory.look(&id(number)).at.unwrap();
            memory.put(id(number), Object { labels: [label(place).slot()].into(), since, ..object(10, 60) });
        }
        let kept = || [0, 1, 2].map(|number| memory.look(&id(number)).object.is_some());
        memory.forget(&[Label::address("b", "/x", Some("q=1"))]);
        assert_eq!(kept(), [true; 3]);
        memory.forget(&[Label::address("a", "/y", Some("q=1"))]);
        assert_eq!(kept(), [true, true, false]);
        memory.forget(&[Label::address("a", "/x", Some("q=2"))]);
        assert_eq!(kept(), [true, false, false]);
        memory.forget(&[Label::address("a", "/x", Some("q=1"))]);
        assert_eq!(kept(), [false; 3]);
    }
}
