//! How requests come in: addresses, protocols, certificates and limits of one listener, compiled.

mod config;

pub use config::{
    Binds, Cert, ClientCa, ClientCaMode, Config, Limits, Protocol, ProxyProtocol, Redirect, Timeout, Tls, TlsVersion,
};
