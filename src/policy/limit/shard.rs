//! One part of the cells: an open table that grows up to what it may hold, and then makes room near where it is needed.

use super::store::State;

/// Slots that are searched for one that may be forgotten, at most.
const SEARCHED: usize = 64;

#[derive(Clone, Copy, Default)]
struct Slot<S> {
    /// The key; nought where nothing is kept.
    key: u64,
    state: S,
}

/// Cells by key in a table of slots, each as near behind its home as there was room.
pub(super) struct Shard<S> {
    slots: Vec<Slot<S>>,
    used: usize,
    /// For keys that found no place.
    shared: S,
}

impl<S: State> Default for Shard<S> {
    fn default() -> Self {
        Self { slots: Vec::new(), used: 0, shared: S::default() }
    }
}

impl<S: State> Shard<S> {
    pub(super) fn len(&self) -> usize {
        self.used
    }

    pub(super) fn each(&self, deed: &mut impl FnMut(u64, &S)) {
        self.slots.iter().filter(|slot| slot.key > 0).for_each(|slot| deed(slot.key, &slot.state));
    }

    /// The cell of those who have none of their own.
    pub(super) fn shared(&mut self) -> &mut S {
        &mut self.shared
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// So many more will come.
    pub(super) fn expect(&mut self, more: usize) {
        let wanted = (self.used + more) * 3 / 2 + 2;
        if wanted > self.slots.len() {
            self.grow(wanted);
        }
    }

    pub(super) fn knows(&self, key: u64) -> bool {
        self.find(key).is_ok()
    }

    pub(super) fn known(&mut self, key: u64) -> Option<&mut S> {
        let at = self.find(key).ok()?;
        self.slots.get_mut(at).map(|slot| &mut slot.state)
    }

    /// The cell of this key, a new one if need be; the shared one for a key that is not to have its own.
    pub(super) fn cell(&mut self, key: u64, own: bool, most: usize) -> &mut S {
        if !own {
            return &mut self.shared;
        }
        let at = match self.find(key) {
            Ok(at) => at,
            Err(at) => self.begin(key, at, most),
        };
        match self.slots.get_mut(at) {
            Some(slot) => &mut slot.state,
            None => &mut self.shared,
        }
    }

    /// Whether there is room for one more, if need be in the place of another. That one is near the home of the new
    /// key: its memory is needed anyway, and no part of the table fills up while another empties.
    pub(super) fn make_room(&mut self, key: u64, now: u64, most: usize, spent: impl Fn(&S) -> bool) -> bool {
        if self.used < most {
            return true;
        }
        let mut soonest: Option<(u64, usize)> = None;
        let mut at = self.home(key);
        for _ in 0..SEARCHED {
            let here = at;
            at = self.next(here);
            let Some(slot) = self.slots.get(here).filter(|slot| slot.key > 0) else { continue };
            let idle = slot.state.idle_at();
            if idle <= now {
                soonest = Some((idle, here));
                break;
            }
            if !spent(&slot.state) && soonest.is_none_or(|(best, _)| idle < best) {
                soonest = Some((idle, here));
            }
        }
        soonest.map(|(_, at)| self.forget(at)).is_some()
    }

    fn home(&self, key: u64) -> usize {
        let scaled = (u128::from(key) * self.slots.len() as u128) >> 64;
        usize::try_from(scaled).unwrap_or(0)
    }

    fn next(&self, at: usize) -> usize {
        if at + 1 < self.slots.len() { at + 1 } else { 0 }
    }

    /// Where the key is, or where it would be.
    fn find(&self, key: u64) -> Result<usize, usize> {
        let mut at = self.home(key);
        loop {
            match self.slots.get(at) {
                Some(slot) if slot.key == key => return Ok(at),
                Some(slot) if slot.key > 0 => at = self.next(at),
                _ => return Err(at),
            }
        }
    }

    /// A new cell; a third of the slots always stays empty, so that keys are near their homes.
    fn begin(&mut self, key: u64, at: usize, most: usize) -> usize {
        let mut at = at;
        if (self.used + 1) * 3 > self.slots.len() * 2 {
            let wanted = (self.slots.len() * 2).min(most.max(self.used + 1) * 3 / 2).max(8);
            self.grow(wanted.max((self.used + 1) * 3 / 2 + 2));
            at = self.find(key).unwrap_or_else(|free| free);
        }
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Slot { key, state: S::default() };
            self.used += 1;
        }
        at
    }

    fn grow(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); slots]);
        for slot in old.into_iter().filter(|slot| slot.key > 0) {
            let (Ok(at) | Err(at)) = self.find(slot.key);
            if let Some(free) = self.slots.get_mut(at) {
                *free = slot;
            }
        }
    }

    /// Empties a slot; those behind it move up, so that each is found from its home on.
    fn forget(&mut self, at: usize) {
        let (mut empty, mut at) = (at, at);
        loop {
            at = self.next(at);
            let Some(slot) = self.slots.get(at).copied().filter(|slot| slot.key > 0) else { break };
            let home = self.home(slot.key);
            // Its home lies behind the empty one: it is reached without it.
            let behind = if empty <= at { empty < home && home <= at } else { empty < home || home <= at };
            if !behind {
                if let Some(free) = self.slots.get_mut(empty) {
                    *free = slot;
                }
                empty = at;
            }
        }
        if let Some(slot) = self.slots.get_mut(empty) {
            *slot = Slot::default();
            self.used -= 1;
        }
    }
}
