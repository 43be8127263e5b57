//! Yumen: an API gateway that you can trust at the edge.

pub mod answer;
pub mod canonical;
pub mod chore;
pub mod exchange;
pub mod fault;
pub mod messages;
pub mod problem;
pub mod state;
pub mod units;

pub mod client;
pub mod telemetry;

pub mod pool;

pub mod policy;

pub mod listener;
pub mod route;

pub mod config;
pub mod snapshot;

pub mod proxy;

pub mod gateway;

pub mod cli;
