//! What the gateway tells the outside: metrics, access log, trace context and its own log.

pub mod access;
pub mod clock;
pub mod counted;
pub mod metrics;
pub mod program;
pub mod random;
pub mod recent;
pub mod spans;
pub mod trace;
