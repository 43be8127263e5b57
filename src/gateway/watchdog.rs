//! Feeds the service manager's watchdog, for as long as every worker answers.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use super::notify::Notify;

/// Feeds twice in each period, for ever; a worker that is stuck starves it, so that the manager starts us anew.
pub(super) async fn feed(notify: Notify, workers: Vec<Handle>, period: Duration) {
    let half = period / 2;
    let mut next = Instant::now();
    loop {
        next = (next + half).max(Instant::now());
        match stuck(&workers, next).await {
            0 => notify.watchdog(),
            stuck => log::error!("{stuck} of {} workers have not answered for {half:?}", workers.len()),
        }
        tokio::time::sleep_until(next).await;
    }
}

/// How many workers do nothing until then.
async fn stuck(workers: &[Handle], until: Instant) -> usize {
    let answers = workers.iter().map(|worker| async move {
        let mut answer = worker.spawn(async {});
        let answered = timeout_at(until, &mut answer).await.is_ok();
        answer.abort();
        answered
    });
    join_all(answers).await.into_iter().filter(|answered| !answered).count()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::mpsc;

    use super::*;
    use crate::gateway::workers::Workers;

    const PERIOD: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn a_worker_that_is_stuck_starves_the_watchdog() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let manager = tokio::net::UnixDatagram::from_std(manager).unwrap();
        let workers = Workers::start(2).unwrap();
        let feeding = feed(Notify::to(path.as_os_str()).unwrap(), workers.handles().to_vec(), PERIOD);
        let feeding = tokio::spawn(feeding);
        let fed = async |patience: Duration| {
            let mut bytes = [0; 64];
            tokio::time::timeout(patience, manager.recv(&mut bytes)).await.is_ok()
        };
        let long = Duration::from_secs(20);
        for _ in 0..3 {
            assert!(fed(long).await);
        }
        let (go, wait) = mpsc::channel::<()>();
        let (begun, blocked) = tokio::sync::oneshot::channel();
        workers.handles()[1].spawn(async move {
            let _ = begun.send(());
            let _ = wait.recv();
        });
        blocked.await.unwrap();
        // What was on its way when the worker stopped may still come.
        while fed(PERIOD * 2).await {}
        assert!(!fed(PERIOD * 5).await, "nothing comes while one of two is stuck");
        go.send(()).unwrap();
        assert!(fed(long).await, "it goes on with the worker");
        feeding.abort();
    }
}
