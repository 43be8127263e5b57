//! Handing the service over to a successor: who is started, and what becomes of it here.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::notify::Notify;
use super::reload::{Outcome, Reloader, Verdict};
use super::source::Source;
use super::takeover::{Draining, Elders, Estate, Line, Named, Owner, Program, Refusal, Word, give};
use crate::config::diff::Diff;
use crate::config::{Seals, Texts};
use crate::snapshot::{Leaving, carry};

/// What a process needs to be followed by another.
#[derive(Debug)]
pub struct Succession {
    /// What would be started, or why nothing can be.
    program: Result<Program, String>,
    /// Those before us that still drain.
    pub elders: Elders,
    /// To the process that serves in our place.
    heir: Mutex<Option<Line>>,
    /// Of what a successor was given, that which only one process may have.
    given: Mutex<Vec<u8>>,
    /// How often the service manager wants to hear of the process that serves.
    watchdog: Option<Duration>,
}

impl Succession {
    /// For a process whose document lies in a file; what else is served ends with it.
    pub fn new(source: &Source, watchdog: Option<Duration>, draining: Vec<Line>) -> Self {
        let program = match std::process::id() {
            _ if matches!(source, Source::Text(..)) => Err("its document is built in".to_owned()),
            // Its end is the end of the container, whoever else is in it.
            1 => Err("it is the first process of its container: replace the container".to_owned()),
            _ => Program::ours().map_err(|why| format!("its own program cannot be found: {why}")),
        };
        let elders = Elders::default();
        for line in draining {
            elders.add(line);
        }
        Self { program, elders, heir: Mutex::default(), given: Mutex::default(), watchdog }
    }

    /// What a successor would be, or why there can be none.
    pub fn program(&self) -> Result<&Program, Refusal> {
        let refuse = |why: &String| Refusal { code: 75, report: format!("this process cannot hand over: {why}\n") };
        self.program.as_ref().map_err(refuse)
    }

    /// Tells the successor how far the drain is; whether it wants us gone.
    pub fn report(&self, connections: usize) -> bool {
        let heir = self.heir.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = heir.as_ref() else { return false };
        let pid = std::process::id();
        // A successor that is gone leaves us to our drain.
        let _ = line.mention(&Word::Draining { pid, connections });
        matches!(line.overhear(), Ok(Some(Word::Leave)))
    }

    /// The generations that still drain.
    pub fn draining(&self) -> Vec<Draining> {
        self.elders.look()
    }
}

impl Reloader {
    /// Ends when a successor serves.
    pub async fn succeeded(&self) {
        let mut over = self.over.subscribe();
        // The sender is ours.
        let _ = over.wait_for(|over| *over).await;
    }

    /// Accepts, or lets connections wait in the backlog.
    pub(super) fn accept(&self, accept: bool) {
        self.listeners.accept_now(accept);
        if let Some(admin) = self.admin.get() {
            admin.accept_now(accept);
        }
    }

    /// Another descriptor of every socket, each under the name by which its listener finds it.
    pub(super) fn sockets(&self) -> std::io::Result<Vec<Named>> {
        let mut all = self.listeners.handed_on()?;
        if let Some(admin) = self.admin.get() {
            all.extend(admin.handed_on()?);
        }
        Ok(all)
    }

    /// A successor listens on all sockets: their files stay.
    pub(super) fn live_on(&self) {
        self.listeners.live_on();
        if let Some(admin) = self.admin.get() {
            admin.live_on();
        }
    }

    /// Lets go of the sockets of clients; those of the admin listener too where a successor answers in its place.
    pub(super) fn close(&self, admin_too: bool) {
        self.listeners.release();
        if let Some(admin) = self.admin.get().filter(|_| admin_too) {
            admin.release();
        }
    }

    /// Hands over to the program in `file`, or to what now lies where this one was started from.
    pub async fn upgrade(self: &Arc<Self>, why: &str, file: Option<PathBuf>) -> Outcome {
        let Ok(_turn) = self.turn.try_lock() else {
            return self.refused(75, "a reload or an upgrade is under way; ask again when it has ended\n".to_owned());
        };
        if self.live.is_draining() {
            return self.refused(75, "this process is leaving\n".to_owned());
        }
        let program = self.succession.program().map(|ours| file.map_or_else(|| ours.clone(), |file| ours.at(file)));
        let outcome = match program {
            Ok(program) => self.hand_over(&program, Diff::default()).await,
            Err(refusal) => self.refused(refusal.code, refusal.report),
        };
        self.tell(&format!("upgrade ({why})"), &outcome);
        outcome
    }

    /// Brings up a successor and lets go of the service, or serves on.
    pub(super) async fn hand_over(self: &Arc<Self>, program: &Program, changes: Diff) -> Outcome {
        let given = match self.estate() {
            Ok(estate) => {
                let (this, program) = (self.clone(), program.clone());
                let given = tokio::task::spawn_blocking(move || {
                    let heir = give(&program, &estate, &*this)?;
                    if this.live.is_draining() {
                        heir.dismiss();
                        return Err(intact("this process was told to stop meanwhile\n".to_owned()));
                    }
                    this.main_pid(heir.pid);
                    Ok((heir.pid, heir.commit()?))
                });
                given.await.unwrap_or_else(|panic| Err(intact(format!("handing over failed: {panic}\n"))))
            }
            Err(why) => Err(intact(format!("the sockets cannot be handed over: {why}\n"))),
        };
        match given {
            Ok((pid, line)) => {
                self.let_go(line);
                let now = self.live.load();
                let (generation, hash) = (now.generation + 1, Seals::of(&now.files, &Texts::default()).hash());
                let report = format!("process {pid} serves\n");
                Outcome { result: Verdict::HandedOver, exit: 0, generation, hash, report, changes }
            }
            Err(refusal) => {
                self.live.tools.metrics.upgraded(false);
                self.main_pid(std::process::id());
                let given = std::mem::take(&mut *self.given());
                carry::take_back(&self.live, &given);
                self.accept(true);
                self.refused(refusal.code, refusal.report)
            }
        }
    }

    fn given(&self) -> MutexGuard<'_, Vec<u8>> {
        self.succession.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is to hear that we are well, and how often.
    pub(super) fn watchdog(&self) -> Option<(Notify, Duration)> {
        Some((self.notify.get()?.clone(), self.succession.watchdog?))
    }

    fn main_pid(&self, pid: u32) {
        if let Some(notify) = self.notify.get() {
            notify.main_pid(pid);
        }
    }

    fn estate(&self) -> std::io::Result<Estate> {
        Ok(Estate {
            sockets: self.sockets()?,
            draining: self.succession.elders.lines()?,
            generation: self.live.load().generation,
            watchdog: self.succession.watchdog,
        })
    }

    /// The service is the successor's: what it keeps on disk is no longer ours to write.
    fn let_go(&self, line: Line) {
        *self.succession.heir.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
        self.live_on();
        self.live.leave(Leaving::Succeeded);
        for ledger in self.live.load().ledgers() {
            ledger.close();
        }
        self.over.send_replace(true);
    }
}

fn intact(report: String) -> Refusal {
    Refusal { code: 75, report }
}

impl Owner for Reloader {
    fn accept(&self, accept: bool) {
        Self::accept(self, accept);
    }

    fn pack(&self) -> Vec<u8> {
        let parcel = carry::pack(&self.live);
        *self.given() = carry::keep(&parcel);
        parcel
    }
}
