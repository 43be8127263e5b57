//! The stores of a document, each as what it is: a Redis, memory for answers, or a broker and who brings its messages on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::live::Tools;
use crate::client::mqtt::Broker;
use crate::client::store::{self, Store};
use crate::config::Document;
use crate::forward::Courier;
use crate::policy::{cache, guard, limit};
use crate::pool::Pool;
use crate::problem::{Path, Problems};
use crate::units::Name;

/// The brokers, each under its name.
pub(super) fn brokers(document: &Document, tools: &Tools, problems: &mut Problems) -> guard::Brokers {
    let all = document.stores.iter().filter(|(_, config)| config.mqtt.is_some());
    let compile = |(name, config): (&Name, &store::Config)| {
        let at = Path::of(["stores", name.as_str()]);
        let broker = Broker::compile(name.as_str(), config, &at, &tools.brokers, &tools.metrics, problems);
        (name.clone(), broker)
    };
    all.map(compile).collect()
}

/// Who brings messages of brokers to pools.
pub(super) fn couriers(
    document: &Document,
    tools: &Tools,
    brokers: &guard::Brokers,
    pools: &BTreeMap<Name, Option<Arc<Pool>>>,
    problems: &mut Problems,
) -> Vec<Arc<Courier>> {
    let room = (&tools.desks, document.runtime.state(), &*tools.metrics);
    let all = document.stores.iter().filter_map(|(name, config)| {
        let broker = brokers.get(name)?.as_ref()?;
        Courier::compile(config, broker, pools, &Path::of(["stores", name.as_str()]), room, problems)
    });
    all.map(Arc::new).collect()
}

/// The stores, each under its name.
pub(super) fn stores(
    document: &Document,
    tools: &Tools,
    problems: &mut Problems,
) -> BTreeMap<Name, Option<Arc<Store>>> {
    let compile = |(name, config): (&Name, &store::Config)| {
        let (name, at) = (name.clone(), Path::of(["stores", name.as_str()]));
        config.complain(&at, problems);
        let store = Store::compile(name.as_str(), config, &at, &tools.stores, &tools.metrics, problems);
        (name, store)
    };
    document.stores.iter().map(compile).collect()
}

/// The stores of answers; those that are a Redis are compiled already.
pub(super) fn caches<'a>(document: &Document, tools: &'a Tools, redis: &'a limit::Stores) -> cache::Stores<'a> {
    let memory = document.stores.iter().filter_map(|(name, config)| Some((name.clone(), config.in_memory()?)));
    let memory = memory.collect();
    cache::Stores { shelves: &tools.caches, memory, redis, used: None, metrics: &tools.metrics }
}
