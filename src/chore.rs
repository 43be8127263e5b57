//! A background task: its name and what it does until it is no longer wanted.

use std::future::Future;
use std::pin::Pin;

/// Work beside the requests (a probe, a resolver). It runs until its future ends or the keeper drops it,
/// which happens at each reload: what must survive lies on a shelf (`state.rs`), not in the future.
pub struct Chore {
    /// For logs, e.g. `health/orders`.
    pub name: String,
    /// The work; dropped at any await point.
    pub work: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Whether requests wait for it: then it runs where they do, and not behind a long page of metrics.
    pub near: bool,
}

impl Chore {
    pub fn new(name: impl Into<String>, work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { name: name.into(), work: Box::pin(work), near: false }
    }

    /// The same, run where requests are.
    #[must_use]
    pub fn near(self) -> Self {
        Self { near: true, ..self }
    }
}
