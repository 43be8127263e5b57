//! The connection of a broker over which messages for pools come: the broker keeps for us what we have not acknowledged.
//!
//! A message is acknowledged when it is on disk, and not before. While there is no room nothing more is read, so that the
//! broker keeps the rest.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    Packet, PubAck, PubComp, PubRec, PubRel, Publish, Subscribe, SubscribeFilter, SubscribeReasonCode, Unsubscribe,
};

use super::claim::Claim;
use super::post::Post;
use super::queue::Incoming;
use crate::client::mqtt::access::{Beat, Pulse};
use crate::client::mqtt::line::{Line, Said};
use crate::client::mqtt::{Broker, service, topic};

/// Messages that are written at once.
const AT_ONCE: usize = 256;
const AT_ONCE_BYTES: usize = 4 << 20;
/// How long what finds no room waits, where nothing tells it of any.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// A message that is not on disk yet, and where it has to go.
struct Pending {
    publish: Publish,
    /// The forwards that do not have it, by their place.
    left: Vec<usize>,
}

/// An open connection and what is under way on it.
pub(super) struct Session {
    line: Line,
    pulse: Pulse,
    pending: VecDeque<Pending>,
    /// What is being written to disk, where nobody may have waited for the end of it.
    writing: bool,
    /// Acknowledgements of which nobody knows whether the broker has them: its answer to a question behind them tells.
    unsure: bool,
    /// Questions that it has not answered, with what it knows once it has: the next number of each forward.
    asked: VecDeque<Option<Vec<u64>>>,
    /// What it knows, once all that came before its answer is on disk: it may have sent a message again before it knew.
    knows: Option<Vec<u64>>,
    /// Messages of the kind "exactly once" that the broker will not send again.
    received: HashSet<u16>,
    full: bool,
}

impl Session {
    /// Enters, and asks for what is wanted and for nothing else.
    pub(super) async fn enter(broker: &Broker, claim: &Arc<Claim>, posts: &[Arc<Post>]) -> Result<Self, String> {
        let mine = Arc::clone(claim);
        let known = tokio::task::spawn_blocking(move || Ok((mine.client_id()?, mine.subscribed()))).await;
        let (made, before) = known.map_err(|why| why.to_string())?.map_err(|why: std::io::Error| why.to_string())?;
        let id = broker.client_id().map_or(made, str::to_owned);
        let (line, present) = broker.access().enter(&id, false).await?;
        if !present {
            for post in posts {
                post.forgotten();
            }
        }
        let mut session = Self {
            line,
            pulse: broker.access().pulse(),
            pending: VecDeque::new(),
            writing: false,
            unsure: false,
            asked: VecDeque::new(),
            knows: None,
            received: HashSet::new(),
            full: false,
        };
        let wanted: BTreeSet<String> = posts.iter().map(|post| post.topic.filter()).collect();
        let gone: Vec<String> = before.difference(&wanted).cloned().collect();
        if present && !gone.is_empty() {
            session.line.say(&Packet::Unsubscribe(Unsubscribe { pkid: 1, topics: gone }))?;
        }
        // Before the broker may send any of it: what was asked for once is taken back later.
        let (mine, all) = (Arc::clone(claim), before.union(&wanted).cloned().collect());
        let written = tokio::task::spawn_blocking(move || mine.subscribe(&all)).await;
        written.map_err(|why| why.to_string())?.map_err(|why| why.to_string())?;
        let filters = posts.iter().map(|post| SubscribeFilter { path: post.topic.filter(), qos: service(post.qos) });
        session.line.say(&Packet::Subscribe(Subscribe { pkid: 2, filters: filters.collect() }))?;
        Ok(session)
    }

    /// Whether it was left in the middle of something.
    pub(super) fn is_broken(&self) -> bool {
        self.writing
    }

    /// Takes messages until the connection is of no use any more; why that is.
    pub(super) async fn run(&mut self, claim: &Arc<Claim>, posts: &[Arc<Post>]) -> String {
        loop {
            if let Err(why) = self.step(claim, posts).await {
                return why;
            }
        }
    }

    async fn step(&mut self, claim: &Arc<Claim>, posts: &[Arc<Post>]) -> Result<(), String> {
        if !self.pending.is_empty() && !self.full {
            self.write(posts).await?;
        }
        let reads = self.pending.is_empty();
        let beat = self.pulse.next().into();
        tokio::select! {
            said = self.line.drive(reads) => {
                let said = said?;
                if !matches!(said, Said::Written) {
                    self.pulse.heard();
                }
                self.hear(said, claim, posts)?;
                if !reads {
                    return Ok(());
                }
                while self.pending.len() < AT_ONCE && self.bytes() < AT_ONCE_BYTES {
                    let Some(said) = self.line.ready()? else { break };
                    self.hear(said, claim, posts)?;
                }
            }
            () = room(posts), if self.full => self.full = false,
            () = tokio::time::sleep_until(beat) => {
                if !reads {
                    self.pulse.deaf();
                }
                match self.pulse.beat(Instant::now()) {
                    Some(Beat::Ask) => self.ask(None)?,
                    Some(Beat::Gone) => return Err("does not answer".to_owned()),
                    None => {}
                }
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.pending.iter().map(|pending| pending.publish.payload.len()).sum()
    }

    fn hear(&mut self, said: Said, claim: &Arc<Claim>, posts: &[Arc<Post>]) -> Result<(), String> {
        match said {
            Said::Written | Said::Packet(Packet::UnsubAck(_)) => {}
            Said::TooLong(publish, length) => {
                log::warn!("a message of {length} bytes in {} is too long to be kept", publish.topic);
                Self::wanted(&publish, posts)
                    .into_iter()
                    .filter_map(|at| posts.get(at))
                    .for_each(|post| post.too_long());
                self.acknowledge(&publish)?;
            }
            Said::Packet(Packet::Publish(publish)) => {
                let left = Self::wanted(&publish, posts);
                if left.is_empty() || self.received.contains(&publish.pkid) {
                    self.acknowledge(&publish)?;
                } else {
                    self.pending.push_back(Pending { publish, left });
                }
            }
            Said::Packet(Packet::PubRel(PubRel { pkid })) => {
                self.received.remove(&pkid);
                self.line.say(&Packet::PubComp(PubComp { pkid }))?;
            }
            Said::Packet(Packet::SubAck(said)) => {
                let refused = |code: &SubscribeReasonCode| *code == SubscribeReasonCode::Failure;
                if let Some(post) = said.return_codes.iter().position(refused).and_then(|at| posts.get(at)) {
                    return Err(format!("does not let us listen to {}", post.topic));
                }
                let wanted: BTreeSet<String> = posts.iter().map(|post| post.topic.filter()).collect();
                // What was asked for once is asked for no longer; the next one need not say so again.
                if let Err(why) = claim.subscribe(&wanted) {
                    log::debug!("{}: {why}", claim.dir().display());
                }
                for post in posts {
                    post.counted.up(true);
                }
            }
            Said::Packet(Packet::PingResp) => {
                self.knows = self.asked.pop_front().flatten().or(self.knows.take());
                self.learn(posts);
                self.make_sure(posts)?;
            }
            Said::Packet(other) => return Err(format!("says what only clients say: {other:?}")),
        }
        Ok(())
    }

    /// The forwards that want this message.
    fn wanted(publish: &Publish, posts: &[Arc<Post>]) -> Vec<usize> {
        let fits = |post: &Arc<Post>| topic::matches(&post.topic.filter(), &publish.topic);
        posts.iter().enumerate().filter(|(_, post)| fits(post)).map(|(at, _)| at).collect()
    }

    /// Writes what is pending, and acknowledges what is on disk then.
    async fn write(&mut self, posts: &[Arc<Post>]) -> Result<(), String> {
        self.writing = true;
        for (at, post) in posts.iter().enumerate() {
            let mine: Vec<usize> = self
                .pending
                .iter()
                .enumerate()
                .filter(|(_, one)| one.left.contains(&at))
                .map(|(index, _)| index)
                .collect();
            if mine.is_empty() {
                continue;
            }
            let messages =
                mine.iter().filter_map(|index| self.pending.get(*index)).map(|one| incoming(&one.publish)).collect();
            let kept = post.keep(messages).await;
            for index in mine.into_iter().take(kept) {
                if let Some(pending) = self.pending.get_mut(index) {
                    pending.left.retain(|left| *left != at);
                }
            }
        }
        for pending in std::mem::take(&mut self.pending) {
            if pending.left.is_empty() {
                self.acknowledge(&pending.publish)?;
                self.unsure = true;
            } else {
                self.pending.push_back(pending);
            }
        }
        self.full = !self.pending.is_empty();
        for post in posts {
            let waits = self.pending.iter().any(|one| post.is_among(&one.left, posts));
            post.counted.full(self.full && waits);
        }
        self.writing = false;
        self.learn(posts);
        self.make_sure(posts)
    }

    /// Takes up what the broker knows, where nothing that came before waits to be looked at.
    fn learn(&mut self, posts: &[Arc<Post>]) {
        if self.pending.is_empty() {
            let knows = self.knows.take().unwrap_or_default();
            posts.iter().zip(knows).for_each(|(post, before)| post.acknowledged(before));
        }
    }

    fn ask(&mut self, knows: Option<Vec<u64>>) -> Result<(), String> {
        self.asked.push_back(knows);
        self.line.say(&Packet::PingReq)
    }

    /// Finds out whether the broker has the acknowledgements, with one question at a time. What waits for room in one queue
    /// is not acknowledged, and may be in another.
    fn make_sure(&mut self, posts: &[Arc<Post>]) -> Result<(), String> {
        if self.pending.is_empty() && self.asked.is_empty() && std::mem::take(&mut self.unsure) {
            return self.ask(Some(posts.iter().map(|post| post.tray.next()).collect()));
        }
        Ok(())
    }

    fn acknowledge(&mut self, publish: &Publish) -> Result<(), String> {
        match publish.qos {
            QoS::AtMostOnce => Ok(()),
            QoS::AtLeastOnce => self.line.say(&Packet::PubAck(PubAck { pkid: publish.pkid })),
            QoS::ExactlyOnce => {
                self.received.insert(publish.pkid);
                self.line.say(&Packet::PubRec(PubRec { pkid: publish.pkid }))
            }
        }
    }

    /// Says what is left to be said, and goodbye.
    pub(super) async fn leave(mut self) {
        if self.line.say(&Packet::Disconnect).is_ok() {
            let _ = tokio::time::timeout(GOODBYE, self.line.flush()).await;
        }
    }
}

fn incoming(publish: &Publish) -> Incoming {
    Incoming {
        packet: publish.pkid,
        again: publish.dup,
        topic: publish.topic.as_str().into(),
        payload: publish.payload.clone(),
    }
}

/// Until some queue has room again, or it is time to look.
async fn room(posts: &[Arc<Post>]) {
    let any = futures_util::future::select_all(posts.iter().map(|post| Box::pin(post.room())));
    let _ = tokio::time::timeout(PAUSE, any).await;
}
