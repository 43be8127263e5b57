//! One at a time: who fetches an answer anew beside the requests that get the old one.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::Id;

static TURNS: LazyLock<Mutex<HashSet<Id>>> = LazyLock::new(Mutex::default);

/// The right to fetch one answer; over when it is dropped.
#[derive(Debug)]
pub struct Turn(Id);

impl Turn {
    /// Nothing where someone else has it.
    pub fn take(id: Id) -> Option<Self> {
        let is_new = TURNS.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        is_new.then(|| Self(id))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TURNS.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_the_turn_until_it_is_over() {
        let turn = Turn::take([9; 16]);
        assert!(turn.is_some() && Turn::take([9; 16]).is_none() && Turn::take([8; 16]).is_some());
        drop(turn);
        assert!(Turn::take([9; 16]).is_some());
    }
}
