//! What the service manager is told of the process that serves.

use std::sync::{Arc, PoisonError};

use super::notify::Notify;
use super::reload::Reloader;
use crate::gateway::listen::Keep;

impl Reloader {
    /// Tells the service manager that we serve: it keeps our sockets from now on, what nobody asked for is closed.
    pub fn announce(&self, notify: Notify) {
        for name in self.listeners.inherited().rest() {
            log::warn!("no listener asks for the inherited socket {name}: closed");
            notify.forget(&name);
        }
        if notify.is_heard() {
            let keep = Arc::new(notify.clone());
            self.listeners.kept_by(keep.clone());
            self.admin.get().into_iter().for_each(|admin| admin.kept_by(keep.clone()));
        }
        notify.ready(&self.sentence());
        let _ = self.notify.set(notify);
    }

    /// How things are now; a process that others have replaced is not asked.
    pub(super) fn tell_service_manager(&self) {
        if let Some(notify) = self.notify.get().filter(|_| !*self.over.borrow()) {
            notify.status(&self.sentence());
        }
    }

    /// What serves, and what was wrong with the last order if it was refused, on one line.
    fn sentence(&self) -> String {
        let snapshot = self.live.load();
        let serves = format!("generation {} serves, hash {}", snapshot.generation, snapshot.hash);
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last.as_ref().filter(|(_, outcome)| !outcome.applied()) {
            Some((_, refused)) => {
                let why = refused.report.lines().next().unwrap_or_default();
                format!("{serves}; the last reload was refused: {why}")
            }
            None => serves,
        }
    }
}
