//! The connections to one store: a single one, or one to each master of a cluster.

use std::sync::Arc;

use futures_util::future::select_all;
use redis::aio::MultiplexedConnection;

use super::line::{self, Driver};
use super::script::Script;
use super::whither::{self, Redis, slot};
use super::{Address, Store};

/// Connections, and which of them is for which slots: each up to and with this one.
pub(super) struct Lines {
    first: MultiplexedConnection,
    slots: Vec<(u16, MultiplexedConnection)>,
}

impl Lines {
    fn single(line: &MultiplexedConnection) -> Self {
        Self { first: line.clone(), slots: Vec::new() }
    }

    /// The one for a key.
    pub(super) fn of(&self, key: &str) -> MultiplexedConnection {
        if self.slots.is_empty() {
            return self.first.clone();
        }
        let slot = slot(key);
        let at = self.slots.partition_point(|(last, _)| *last < slot);
        self.slots.get(at).map_or(&self.first, |(_, line)| line).clone()
    }
}

impl Store {
    /// To the address itself, to where a sentinel sends us, or to all masters of the cluster that it belongs to.
    pub(super) async fn follow(&self, address: &Address) -> Result<(Arc<Lines>, Driver), String> {
        let tls = self.tls.as_ref();
        match &self.redis {
            Redis::At(_) => self.open(address).await,
            Redis::Sentinels { master, .. } => self.open(&whither::master(address, master, tls).await?).await,
            Redis::Cluster { .. } => self.open_cluster(address).await,
        }
    }

    async fn open(&self, address: &Address) -> Result<(Arc<Lines>, Driver), String> {
        let (line, driver) = line::open(address, self.tls.as_ref(), &self.who).await?;
        self.try_out(address, Lines::single(&line), driver).await
    }

    async fn open_cluster(&self, node: &Address) -> Result<(Arc<Lines>, Driver), String> {
        let (line, mut driver) = line::open(node, self.tls.as_ref(), &self.who).await?;
        let ranges = whither::slots(node, &line, &mut driver).await?;
        let (mut lines, mut opened, mut drivers) = (Lines::single(&line), Vec::new(), vec![driver]);
        for (_, last, master) in ranges {
            let known = opened.iter().find_map(|(at, line)| (*at == master).then_some(line));
            let line = if let Some(line) = known {
                MultiplexedConnection::clone(line)
            } else {
                let (line, driver) = line::open(&master, self.tls.as_ref(), &self.who).await?;
                drivers.push(driver);
                opened.push((master, MultiplexedConnection::clone(&line)));
                MultiplexedConnection::clone(&line)
            };
            lines.slots.push((last, line));
        }
        // Where one of them ends, all are opened again: the slots may have moved.
        self.try_out(node, lines, Box::pin(async { drop(select_all(drivers).await) })).await
    }

    /// Whether it can be written to.
    async fn try_out(&self, at: &Address, lines: Lines, mut driver: Driver) -> Result<(Arc<Lines>, Driver), String> {
        tokio::select! {
            () = &mut driver => Err(format!("{at} has hung up")),
            answer = super::keep::announce(&lines) => match answer {
                Ok(_) => Ok((Arc::new(lines), driver)),
                Err(why) => Err(format!("{at} cannot be used: {why}")),
            },
        }
    }
}

/// Whether a cluster has said that a key is elsewhere now.
pub(super) fn has_moved(why: &redis::RedisError) -> bool {
    why.is_cluster_error()
}

/// Whether the store is well and says so: what is wrong with one key is wrong with no other.
pub(super) fn is_answer(why: &redis::RedisError) -> bool {
    use redis::{ErrorKind, ServerErrorKind};
    let server = [ServerErrorKind::ResponseError, ServerErrorKind::NoPerm, ServerErrorKind::CrossSlot];
    match why.kind() {
        ErrorKind::Extension | ErrorKind::UnexpectedReturnType => true,
        ErrorKind::Server(kind) => server.contains(&kind),
        _ => false,
    }
}

/// Runs a script on one key where that belongs.
pub(super) async fn run<T: redis::FromRedisValue>(
    lines: &Lines,
    script: &Script,
    key: &str,
    arguments: &[super::Argument<'_>],
) -> redis::RedisResult<T> {
    script.run(&mut lines.of(key), key, arguments).await
}
