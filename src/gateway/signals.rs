//! What the operator says by signal.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// An order from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// HUP: read the document again.
    Reload,
    /// USR1: open the log files again.
    Reopen,
    /// USR2: hand over to the program that now lies where this one was started from.
    Upgrade,
    /// TERM, QUIT: finish what is in flight, then leave.
    Drain,
    /// INT: leave now.
    Stop,
}

/// The signals that mean something to us.
pub struct Signals {
    hangup: Signal,
    user: Signal,
    second_user: Signal,
    terminate: Signal,
    quit: Signal,
    interrupt: Signal,
}

impl Signals {
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
            second_user: signal(SignalKind::user_defined2())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.hangup.recv() => Order::Reload,
            _ = self.user.recv() => Order::Reopen,
            _ = self.second_user.recv() => Order::Upgrade,
            _ = self.terminate.recv() => Order::Drain,
            _ = self.quit.recv() => Order::Drain,
            _ = self.interrupt.recv() => Order::Stop,
        }
    }
}
