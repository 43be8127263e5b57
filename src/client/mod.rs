//! Side calls: what the gateway itself asks of others.

pub mod authorities;
pub mod fetch;
pub mod http;
pub mod mqtt;
pub mod otlp;
pub mod service;
pub mod store;
pub mod url;
