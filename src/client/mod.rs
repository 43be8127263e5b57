//! Side calls: what the gateway itself asks of others.

pub mod http;
