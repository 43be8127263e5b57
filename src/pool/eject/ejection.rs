//! What is known of one target's ejection, through all reloads and into the process after this one.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

use super::latency::Latency;
use super::machine::Machine;
use crate::pool::breaker::window::Window;
use crate::state::parcel::Said;

/// What is known of a target, through all reloads.
pub(in crate::pool) struct Ejection {
    /// Whether the machine says so, to be read without its lock.
    out: AtomicBool,
    /// It has answered nothing since it was taken out.
    pub(super) mute: AtomicBool,
    /// A request is with it that may change that.
    pub(super) tried: AtomicBool,
    pub(super) in_row: AtomicU32,
    pub(super) outcomes: Window,
    pub(super) latency: Latency,
    machine: Mutex<Machine>,
}

impl Ejection {
    pub(in crate::pool) fn new(now: Instant) -> Self {
        Self {
            out: AtomicBool::new(false),
            mute: AtomicBool::new(false),
            tried: AtomicBool::new(false),
            in_row: AtomicU32::new(0),
            outcomes: Window::new(now),
            latency: Latency::new(now),
            machine: Mutex::new(Machine::new(now)),
        }
    }

    pub(super) fn machine<R>(&self, change: impl FnOnce(&mut Machine) -> R) -> R {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = change(&mut machine);
        self.out.store(machine.left(Instant::now()).is_some(), Relaxed);
        answer
    }

    /// Whether it is out. Nobody looks at a clock for a target that is in.
    pub(super) fn is_out(&self) -> bool {
        self.out.load(Relaxed) && self.machine(|machine| machine.is_out(Instant::now()))
    }

    /// For a successor, as of this moment.
    pub(in crate::pool) fn pack(&self, now: Instant) -> Value {
        let machine = self.machine(|machine| machine.pack(now));
        let (outcomes, latency) = (self.outcomes.pack(now), self.latency.pack(now));
        json!({
            "machine": machine, "in_row": self.in_row.load(Relaxed), "outcomes": outcomes, "latency": latency,
            "mute": self.is_mute(),
        })
    }

    /// As a predecessor had it.
    pub(in crate::pool) fn unpack(&self, said: Said<'_>) -> Option<()> {
        let (machine, in_row) = (Machine::unpack(said.get("machine")?)?, said.number("in_row")?);
        self.outcomes.unpack(said.get("outcomes")?)?;
        self.latency.unpack(said.get("latency")?)?;
        self.in_row.store(in_row, Relaxed);
        self.mute.store(said.value.get("mute") == Some(&Value::Bool(true)), Relaxed);
        self.machine(|place| *place = machine);
        Some(())
    }

    /// Whether it has yet to answer the first request since it was taken out.
    pub(in crate::pool) fn is_mute(&self) -> bool {
        self.mute.load(Relaxed)
    }

    /// A request goes there: whether it is the one that tries how the target is.
    pub(in crate::pool) fn begin_try(&self) -> bool {
        self.is_mute() && !self.tried.swap(true, Relaxed)
    }

    /// That request has ended.
    pub(in crate::pool) fn end_try(&self) {
        self.tried.store(false, Relaxed);
    }

    /// It has answered, and not badly.
    pub(in crate::pool) fn heard(&self) {
        // Most of the time it is not, and stays in everyone's cache.
        if self.is_mute() {
            self.mute.store(false, Relaxed);
        }
    }

    /// Whether the last request went well, as far as that was counted.
    pub(in crate::pool) fn is_well(&self) -> bool {
        self.in_row.load(Relaxed) == 0 && !self.is_mute()
    }

    pub(super) fn forget(&self) {
        self.in_row.store(0, Relaxed);
        self.outcomes.clear();
        self.latency.clear();
    }
}
