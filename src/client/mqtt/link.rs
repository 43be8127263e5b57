//! The connection of a broker for requests: it publishes what they bring and hears what they listen to.
//!
//! Nothing of it is kept by the broker while we are away: who publishes is told so, and who listens is told of the gap.
//! Its name is another one in each process, so that a successor and the process before it do not push each other out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    Packet, PubAck, PubComp, PubRec, PubRel, Publish, SubAck, Subscribe, SubscribeReasonCode, Unsubscribe,
};
use tokio::sync::{mpsc, oneshot};

use super::access::{Beat, Pauses, Pulse};
use super::hub::Hub;
use super::line::{Line, Said};
use super::round::Round;
use super::{AT_ONCE, Broker};

/// Bytes that wait for the broker; no more is taken then.
const UNWRITTEN: usize = 4 << 20;
/// How often it is looked, while no place is free, whether anybody still waits for those who have one.
const FULL: Duration = Duration::from_millis(250);

/// A message of a request.
pub(super) struct Order {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// Told once the broker has it; dropped where it may not have it.
    pub(super) done: oneshot::Sender<()>,
}

/// What belongs to whoever keeps the connection.
pub(super) struct Link {
    open: Option<Open>,
    ordered: mpsc::Receiver<Order>,
}

/// A connection and what is under way on it.
struct Open {
    line: Line,
    pulse: Pulse,
    last: u16,
    /// Messages that the broker has not acknowledged.
    waiting: HashMap<u16, oneshot::Sender<()>>,
    /// Those that ask for no acknowledgement, until they are on their way.
    unwritten: Vec<oneshot::Sender<()>>,
    /// What was subscribed, and how.
    subscribed: HashMap<Box<str>, u8>,
    asked: HashMap<u16, Asked>,
    /// What the broker has agreed to, and may yet say that it had kept: until it has answered this ping.
    settling: Vec<(u64, Asked)>,
    /// So often it was asked whether it is there, and has answered.
    pings: u64,
    pongs: u64,
    /// Messages of the broker that it may send a second time.
    received: HashSet<u16>,
    /// What is listened to may have changed.
    changed: bool,
}

/// A SUBSCRIBE, and for whom it is.
struct Asked {
    hub: Arc<Hub>,
    rounds: Vec<Arc<Round>>,
}

impl Link {
    pub(super) fn new(ordered: mpsc::Receiver<Order>) -> Self {
        Self { open: None, ordered }
    }
}

impl Broker {
    pub(super) async fn keep(self: Arc<Self>) {
        let _kept = self.kept();
        let mut turn = self.link.lock().await;
        let Link { open, ordered } = &mut *turn;
        let (mut pauses, mut said) = (Pauses::default(), String::new());
        loop {
            let Some(opened) = open.as_mut() else {
                match self.access.enter(&self.id, true).await {
                    Ok((line, _)) => {
                        *open = Some(Open::new(line, self.access.pulse()));
                        pauses.reset();
                        said.clear();
                        self.went_up();
                    }
                    Err(why) => {
                        self.tried.send_replace(true);
                        // Again and again the same is said once.
                        if said != why {
                            log::warn!("store {}: {why}", self.name);
                            said = why;
                        }
                        tokio::time::sleep(pauses.again()).await;
                    }
                }
                continue;
            };
            let why = opened.run(&self, ordered).await;
            *open = None;
            self.went_down(&why);
        }
    }
}

impl Open {
    fn new(line: Line, pulse: Pulse) -> Self {
        Self {
            line,
            pulse,
            last: 0,
            waiting: HashMap::new(),
            unwritten: Vec::new(),
            subscribed: HashMap::new(),
            asked: HashMap::new(),
            settling: Vec::new(),
            pings: 0,
            pongs: 0,
            received: HashSet::new(),
            changed: true,
        }
    }

    /// Talks until the connection is of no use any more; why that is.
    async fn run(&mut self, broker: &Broker, ordered: &mut mpsc::Receiver<Order>) -> String {
        loop {
            if std::mem::take(&mut self.changed)
                && let Err(why) = self.agree(broker)
            {
                return why;
            }
            let full = self.waiting.len() >= AT_ONCE;
            if full && self.is_in_vain() {
                return "does not acknowledge what it was sent".to_owned();
            }
            let room = !full && self.line.unwritten() < UNWRITTEN;
            let done = tokio::select! {
                said = self.line.next() => said.and_then(|said| self.hear(broker, said)),
                order = ordered.recv(), if room => match order {
                    Some(order) => self.publish(order),
                    None => return "nobody wants it any more".to_owned(),
                },
                () = broker.changed.notified() => {
                    self.changed = true;
                    Ok(())
                }
                () = tokio::time::sleep_until(self.pulse.next().into()) => self.beat(),
                () = tokio::time::sleep(FULL), if full => Ok(()),
            };
            if let Err(why) = done {
                return why;
            }
        }
    }

    /// Whether most places are those of messages that nobody waits for any more. Their numbers are not free before the broker
    /// has acknowledged them, or the connection ends.
    fn is_in_vain(&self) -> bool {
        self.waiting.values().filter(|done| done.is_closed()).count() > AT_ONCE / 2
    }

    fn beat(&mut self) -> Result<(), String> {
        // Now and then it is looked what nobody listens to any more.
        self.changed = true;
        match self.pulse.beat(Instant::now()) {
            Some(Beat::Ask) => self.ping(),
            Some(Beat::Gone) => Err("does not answer".to_owned()),
            None => Ok(()),
        }
    }

    /// Whatever the broker was asked before, it answers before it answers this.
    fn ping(&mut self) -> Result<(), String> {
        self.pings += 1;
        self.line.say(&Packet::PingReq)
    }

    /// The broker has answered a ping: what came of what it had kept has come, unless there was so much that it goes on.
    fn pong(&mut self) -> Result<(), String> {
        self.pongs += 1;
        let mut more = false;
        for (ping, asked) in std::mem::take(&mut self.settling) {
            if ping > self.pongs {
                self.settling.push((ping, asked));
            } else if asked.rounds.iter().filter(|round| !round.settles()).count() == 0 {
                asked.hub.closed(&asked.rounds);
            } else {
                more = true;
                self.settling.push((self.pings + 1, asked));
            }
        }
        if more { self.ping() } else { Ok(()) }
    }

    /// The broker has agreed to a SUBSCRIBE, or not.
    fn agreed(&mut self, asked: Asked, granted: bool) -> Result<(), String> {
        asked.hub.answered(&asked.rounds, granted);
        if !granted {
            return Ok(());
        }
        // Not before: a broker whose socket gathers small writes sends the answer once the one before is acknowledged, which
        // this does.
        self.ping()?;
        self.settling.push((self.pings, asked));
        Ok(())
    }

    /// A number that no packet under way has.
    fn number(&mut self) -> u16 {
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            if !self.waiting.contains_key(&self.last) && !self.asked.contains_key(&self.last) {
                return self.last;
            }
        }
    }

    fn publish(&mut self, order: Order) -> Result<(), String> {
        let mut publish = Publish::from_bytes(order.topic, order.qos, order.payload);
        publish.retain = order.retain;
        if order.qos == QoS::AtMostOnce {
            self.unwritten.push(order.done);
        } else {
            publish.pkid = self.number();
            self.waiting.insert(publish.pkid, order.done);
        }
        self.line.say(&Packet::Publish(publish))
    }

    /// Asks for what somebody listens to, and no longer for what nobody does.
    fn agree(&mut self, broker: &Broker) -> Result<(), String> {
        let (wanted, gone) = broker.wanted(&self.subscribed);
        for filter in gone {
            self.subscribed.remove(&filter);
            let pkid = self.number();
            self.line.say(&Packet::Unsubscribe(Unsubscribe { pkid, topics: vec![filter.into()] }))?;
        }
        for hub in wanted {
            let qos = hub.qos();
            let mut subscribe = Subscribe::new(&*hub.filter, service(qos));
            subscribe.pkid = self.number();
            self.subscribed.insert(hub.filter.clone(), qos);
            self.asked.insert(subscribe.pkid, Asked { rounds: hub.begin(), hub });
            self.line.say(&Packet::Subscribe(subscribe))?;
        }
        Ok(())
    }

    fn hear(&mut self, broker: &Broker, said: Said) -> Result<(), String> {
        if !matches!(said, Said::Written) {
            self.pulse.heard();
        }
        match said {
            Said::Written => self.unwritten.drain(..).for_each(|done| {
                // Who has given up is not told.
                let _ = done.send(());
            }),
            Said::TooLong(publish, length) => {
                log::warn!("store {}: a message of {length} bytes in {} is too long", broker.name, publish.topic);
                return self.acknowledge(&publish);
            }
            Said::Packet(packet) => return self.take(broker, packet),
        }
        Ok(())
    }

    fn take(&mut self, broker: &Broker, packet: Packet) -> Result<(), String> {
        match packet {
            Packet::Publish(publish) => {
                if publish.qos != QoS::ExactlyOnce || !self.received.contains(&publish.pkid) {
                    broker.spread(&publish);
                }
                self.acknowledge(&publish)?;
            }
            Packet::PubAck(PubAck { pkid }) | Packet::PubComp(PubComp { pkid }) => {
                if let Some(done) = self.waiting.remove(&pkid) {
                    let _ = done.send(());
                }
            }
            Packet::PubRec(PubRec { pkid }) => self.line.say(&Packet::PubRel(PubRel { pkid }))?,
            Packet::PubRel(PubRel { pkid }) => {
                self.received.remove(&pkid);
                self.line.say(&Packet::PubComp(PubComp { pkid }))?;
            }
            Packet::SubAck(SubAck { pkid, return_codes }) => {
                let granted = matches!(return_codes.first(), Some(SubscribeReasonCode::Success(_)));
                if let Some(asked) = self.asked.remove(&pkid) {
                    self.agreed(asked, granted)?;
                }
            }
            Packet::PingResp => self.pong()?,
            Packet::UnsubAck(_) => {}
            other => return Err(format!("says what only clients say: {other:?}")),
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
}

/// How sure a message has to come, as the protocol has it.
pub fn service(qos: u8) -> QoS {
    match qos {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}
