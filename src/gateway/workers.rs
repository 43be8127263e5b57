//! The threads that serve: one runtime each, nothing shared between them on a request's way.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

/// Threads with a runtime each; they end when this is dropped.
pub struct Workers {
    handles: Vec<Handle>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts `count` threads.
    pub fn start(count: usize) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let mut workers = Self { handles: Vec::new(), stop, threads: Vec::new() };
        for number in 0..count.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            workers.handles.push(runtime.handle().clone());
            let mut stopped = stopped.clone();
            let work = move || {
                runtime.block_on(async { while !*stopped.borrow_and_update() && stopped.changed().await.is_ok() {} });
                runtime.shutdown_background();
            };
            workers.threads.push(std::thread::Builder::new().name(format!("worker-{number}")).spawn(work)?);
        }
        Ok(workers)
    }

    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// Whether every thread does what it is asked to within this time.
    pub async fn answer(&self, patience: Duration) -> bool {
        let asked = self.handles.iter().map(|handle| handle.spawn(std::future::ready(())));
        tokio::time::timeout(patience, try_join_all(asked)).await.is_ok_and(|all| all.is_ok())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
