//! On which terms a pool takes what it finds.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Resolver;
use super::allow::Rule;
use crate::pool::Config;

/// What holds for every source of a pool.
pub(in crate::pool) struct Terms {
    pub(in crate::pool) rule: Rule,
    pub(in crate::pool) resolver: Arc<Resolver>,
    /// What the targets stand in, where that is a file of their own.
    pub(in crate::pool) file: Option<PathBuf>,
    /// How long the last known targets are used.
    pub(super) keep: Duration,
    /// Tells these settings from others: what was found under others is asked for anew.
    pub(super) settings: u64,
}

impl Terms {
    pub(in crate::pool) fn new(config: &Config, listeners: &[SocketAddr], resolver: Arc<Resolver>) -> Self {
        let (config, file) = (&config.discover, config.targets.file().cloned());
        let rule = Rule { allow: config.allow.clone(), listeners: listeners.to_vec() };
        let mut settings = DefaultHasher::new();
        rule.hash(&mut settings);
        format!("{config:?}").hash(&mut settings);
        // The debug form shows no secret, and another one may be let in to more.
        config.token.as_ref().and_then(|token| token.resolve().ok()).hash(&mut settings);
        Self { rule, resolver, file, keep: config.keep_if_down.get(), settings: settings.finish() }
    }
}
