//! Live state that outlives a snapshot: kept under its owner's name, dropped with its last user.

pub mod parcel;
pub mod since;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Cells by name; the shelf itself keeps none of them alive.
pub struct Shelf<K, T>(Mutex<HashMap<K, Weak<T>>>);

impl<K, T> Default for Shelf<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq, T> Shelf<K, T> {
    /// The cell under `key`: the one in use if a snapshot or request still holds it, else a new one.
    pub fn keep(&self, key: K, new: impl FnOnce() -> T) -> Arc<T> {
        let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = cells.get(&key).and_then(Weak::upgrade) {
            return cell;
        }
        if cells.len() >= 64 && cells.len() == cells.capacity() {
            cells.retain(|_, cell| cell.strong_count() > 0);
        }
        let cell = Arc::new(new());
        cells.insert(key, Arc::downgrade(&cell));
        cell
    }

    /// The cells in use, with their names.
    pub fn all(&self) -> Vec<(K, Arc<T>)>
    where
        K: Clone,
    {
        let cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cells.iter().filter_map(|(key, cell)| Some((key.clone(), cell.upgrade()?))).collect()
    }

    /// How many cells are in use.
    pub fn len(&self) -> usize {
        let cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cells.values().filter(|cell| cell.strong_count() > 0).count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_lives_as_long_as_its_last_user() {
        let shelf = Shelf::default();
        let first = shelf.keep("orders", || 7);
        assert_eq!(*shelf.keep("orders", || 8), 7);
        assert_eq!(shelf.all(), [("orders", Arc::new(7))]);
        drop(first);
        assert!(shelf.is_empty() && shelf.all().is_empty());
        assert_eq!(*shelf.keep("orders", || 8), 8);
    }
}
