//! What the tunnels of a route count.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use prometheus::{IntCounter, IntGauge};

use super::family::Lease;
use super::list::Families;

/// Who did something in a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Client,
    Target,
    Gateway,
}

impl By {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Target => "target",
            Self::Gateway => "gateway",
        }
    }
}

/// Codes of a goodbye are as many as clients like: those that mean something to all have their own name.
fn name(code: Option<u16>) -> Cow<'static, str> {
    match code {
        None => "none".into(),
        Some(code @ (1000..=1003 | 1007..=1014)) => code.to_string().into(),
        Some(3000..4000) => "3xxx".into(),
        Some(4000..5000) => "4xxx".into(),
        Some(_) => "other".into(),
    }
}

/// The tunnels of one route.
pub struct WebsocketMetrics {
    families: Arc<Families>,
    lease: Lease,
    route: Box<str>,
    open: IntGauge,
    from_client: OnceLock<[IntCounter; 2]>,
    from_target: OnceLock<[IntCounter; 2]>,
}

impl WebsocketMetrics {
    pub(super) fn new(families: &Arc<Families>, lease: Lease, route: &str) -> Self {
        Self {
            open: lease.child(&families.websockets, &[route]),
            from_client: OnceLock::new(),
            from_target: OnceLock::new(),
            families: Arc::clone(families),
            route: route.into(),
            lease,
        }
    }

    /// One tunnel is open until the guard is dropped.
    pub fn open(self: &Arc<Self>) -> Tunnelled {
        self.open.inc();
        Tunnelled(Arc::clone(self))
    }

    /// So many messages and bytes of one side went through.
    pub fn passed(&self, by: By, messages: u64, bytes: u64) {
        let slot = if by == By::Client { &self.from_client } else { &self.from_target };
        let [counted_messages, counted_bytes] = slot.get_or_init(|| {
            let labels = [&*self.route, by.word()];
            let families = &self.families;
            [&families.websocket_messages, &families.websocket_bytes].map(|family| self.lease.child(family, &labels))
        });
        counted_messages.inc_by(messages);
        counted_bytes.inc_by(bytes);
    }

    /// One tunnel was closed: with which code, if any, and by whom.
    pub fn closed(&self, code: Option<u16>, by: By) {
        self.lease.child(&self.families.websocket_closes, &[&self.route, &name(code), by.word()]).inc();
    }
}

/// A tunnel that is open.
pub struct Tunnelled(Arc<WebsocketMetrics>);

impl Drop for Tunnelled {
    fn drop(&mut self) {
        self.0.open.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_code_a_client_makes_up_has_one_of_few_names() {
        let names: std::collections::BTreeSet<_> = (0..=u16::MAX).map(|code| name(Some(code))).collect();
        assert_eq!(names.len(), 4 + 8 + 3);
        assert_eq!((name(Some(1006)), name(Some(4711)), name(None)), ("other".into(), "4xxx".into(), "none".into()));
    }
}
