//! What the operator says by signal.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// An order from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// HUP: read the document again.
    Reload,
    /// USR1: open the log files again.
    Reopen,
    /// TERM, QUIT: finish what is in flight, then leave.
    Drain,
    /// INT: leave now.
    Stop,
}

/// The signals that mean something to us.
pub struct Signals {
    hangup: Signal,
    user: Signal,
    terminate: Signal,
    quit: Signal,
    interrupt: Signal,
}

impl Signals {
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.hangup.recv() => Order::Reload,
            _ = self.user.recv() => Order::Reopen,
            _ = self.terminate.recv() => Order::Drain,
            _ = self.quit.recv() => Order::Drain,
            _ = self.interrupt.recv() => Order::Stop,
        }
    }
}
