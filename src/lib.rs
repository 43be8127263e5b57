//! Yumen: an API gateway that you can trust at the edge.
//!
//! # The house
//!
//! Read from above it is the program; read from below it is the vocabulary.
//!
//! ```text
//!   9  main                        the switch
//!   8  cli                         one file per verb: run, demo, check, explain, show, schema, reload ...
//!   7  gateway                     the process: workers, sockets, reload, take-over, drain, the admin door
//!   6  proxy                       one request, from first byte to log line (Pingora's ProxyHttp)
//!   5  snapshot                    the whole configuration, compiled; swapped as one
//!   4  config                      the document: read, place, check, report
//!   3  route   listener   forward  which request goes where / how it comes in / which messages go where
//!   2  policy                      what happens to it on the way, one file per policy, fixed order
//!   1  pool                        where it goes: targets, balance, health, names
//!   0  client                      side calls
//!      ground: units problem fault broken messages answer canonical exchange chore deadline state telemetry allocator
//! ```
//!
//! A module looks down, never up, never sideways; a test (`tests/it/house.rs`) says so.
//!
//! # What always holds
//!
//! * **A policy knows the exchange, not the proxy; the proxy knows the snapshot, not the document.**
//! * A request looks nothing up by name: its [`route::Route`] holds its pools, policies and counters.
//! * One canonical path, one host, one client address, made once ([`proxy::intake`]), used everywhere, forwarded as such.
//! * A reload is whole or not at all: one pointer is swapped ([`snapshot::Live`]), or nothing has changed.
//! * A process gives way to another whole or not at all: nothing is lost before the successor serves ([`gateway::takeover`]).
//! * State lives longer than settings ([`state::Shelf`]): counts and health survive a reload under their owner's name.
//! * One door out: what can go wrong is one enum and one table ([`fault::Fault`]); the same word is in the answer, the
//!   log, the metrics and the guide.
//!
//! # The way of a request
//!
//! | what happens | where |
//! | --- | --- |
//! | its bytes are checked before anything reads them | [`gateway::listen`] and the connections behind it |
//! | it is made safe, its route is found | [`proxy::intake`], [`route::Table`] |
//! | the route answers itself, or a target is chosen | [`policy`], [`pool::Pool::pick`] |
//! | or several are called, and one answer is made of theirs | [`policy::gather`], [`pool::call`] |
//! | what is remembered of an earlier answer serves, or a target is chosen | [`policy::cache`], `proxy::cache` |
//! | it is sent, with what hops tell each other | `proxy::forward` |
//! | the answer is cleaned and passed on | `proxy::response` |
//! | it is counted and told | `proxy::finish`, [`telemetry`] |

pub mod allocator;
pub mod answer;
pub mod broken;
pub mod canonical;
pub mod chore;
pub mod deadline;
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

pub mod forward;
pub mod listener;
pub mod route;

pub mod config;
pub mod snapshot;

pub mod proxy;

pub mod gateway;

pub mod cli;
