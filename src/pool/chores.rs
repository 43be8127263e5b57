//! What a pool does beside the requests: it asks its targets and looks up its host names.

use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;

use super::discover::{Change, Lookup};
use super::health::{Check, State};
use super::target::Target;
use super::{Pool, chance, eject, endpoint};
use crate::chore::Chore;

/// Targets of one pool that are asked at the same time.
const AT_ONCE: usize = 64;

/// The chores of a pool whose generation has begun to serve.
pub(super) fn of(pool: &Arc<Pool>) -> Vec<Chore> {
    let mut chores = Vec::new();
    if let Some(check) = &pool.check {
        let work = watch_all(Arc::clone(pool), Arc::clone(check));
        chores.push(Chore::new(format!("health/{}", pool.name), work));
    }
    if let Some(rule) = &pool.rules.eject {
        chores.push(Chore::new(format!("eject/{}", pool.name), eject(Arc::clone(pool), Arc::clone(rule))));
    }
    for (host, lookup) in pool.endpoints.iter().filter_map(|endpoint| endpoint.lookup()) {
        let work = follow(Arc::clone(pool), host.to_owned(), Arc::clone(lookup));
        chores.push(Chore::new(format!("dns/{}/{host}", pool.name), work));
    }
    chores
}

/// Watches every target, and begins anew when the set of targets changes.
async fn watch_all(pool: Arc<Pool>, check: Arc<Check>) {
    let permits = Semaphore::new(AT_ONCE);
    let mut renewed = pool.renewed.subscribe();
    loop {
        renewed.mark_unchanged();
        let live = pool.live.load_full();
        let mut watches: FuturesUnordered<_> =
            live.all().iter().map(|target| watch(&pool, &check, target, &permits)).collect();
        tokio::select! {
            changed = renewed.changed() => if changed.is_err() { return },
            // A watch never ends; without targets there is nothing to wait for here.
            Some(()) = watches.next() => {}
        }
    }
}

/// Asks one target, for ever.
async fn watch(pool: &Arc<Pool>, check: &Arc<Check>, target: &Arc<Target>, permits: &Semaphore) {
    let cell = target.cell();
    loop {
        let now = Instant::now();
        if !cell.probe.waits(check.settings(), now, check.timeout()) {
            let asked = cell.record(|record| record.asked());
            tokio::time::sleep(check.wait(asked, now, chance::share())).await;
        }
        let Ok(_permit) = permits.acquire().await else { return };
        let begin = || {
            cell.record(|record| record.ask(Instant::now()));
            let peer = target.peer().clone();
            let authority = endpoint::authority(&pool.settings, target.asked(), &peer._address);
            Box::pin(Arc::clone(check).ask(Arc::clone(&pool.shelves.prober), peer, authority)) as _
        };
        let verdict = cell.probe.run(check.settings(), check.timeout(), begin).await;
        learn(pool, check, target, verdict);
    }
}

/// Ejects who stands out and lets those in again whose time is over, for ever.
async fn eject(pool: Arc<Pool>, rule: Arc<eject::Rule>) {
    loop {
        let wait = rule.tend(Instant::now());
        pool.settle();
        rule.stirred(wait).await;
    }
}

/// Takes in an answer, and tells everyone if it changed something.
pub(super) fn learn(pool: &Pool, check: &Check, target: &Target, verdict: Result<(), String>) {
    let served = target.cell().serves();
    let change = target.cell().record(|record| {
        let change = record.learn(verdict, check, Instant::now());
        change.map(|state| (state, record.reason().unwrap_or_default().to_owned()))
    });
    if let Some((state, reason)) = change {
        match state {
            State::Down => log::warn!("pool {}: target {} is down: {reason}", pool.name, target.name()),
            _ => log::info!("pool {}: target {} is {}", pool.name, target.name(), state.word()),
        }
        pool.observer.target_up(pool.name.as_str(), target.name(), state == State::Up);
        if state == State::Up && !served && pool.live.load().well() > 0 {
            target.begin();
        }
        // Who served before its first probe and passes it changes nothing for the others.
        if state == State::Down || !served {
            pool.standing.change();
        }
    }
    // Here and not above: a chore of the generation before may have changed something meanwhile.
    pool.settle();
}

/// Looks a host name up, for ever.
async fn follow(pool: Arc<Pool>, host: String, lookup: Arc<Lookup>) {
    // What a lookup of the generation before found after this one was compiled.
    pool.renew();
    loop {
        match lookup.ask(&host, &pool.shelves.resolver).await {
            Change::Nothing => {}
            Change::Addresses(addresses) => {
                let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                log::info!("pool {}: {host} is now {}", pool.name, addresses.join(", "));
                pool.renew();
            }
            Change::Failed(reason) => {
                let kept = lookup.addresses().len();
                log::warn!("pool {}: {host} cannot be looked up, {kept} addresses kept: {reason}", pool.name);
            }
        }
    }
}
