//! One test binary: starts the real program on free ports with real origins beside it.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::large_stack_arrays,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::needless_pass_by_value
)]

mod admin_page;
mod alerts;
mod answering;
mod asked;
mod auth;
mod balances;
mod batch;
mod body;
mod breakers;
mod cache;
mod cache_identity;
mod cache_suite;
mod cache_voids;
mod cache_waits;
mod canary;
mod carried;
mod client_address;
mod compress;
mod copies;
mod cors;
mod deploy;
mod differences;
mod discover;
mod ejections;
mod errors;
mod examples;
mod fallbacks;
mod forwarding;
mod forwards;
mod framing;
mod gather;
mod graphql;
mod grpc_health;
mod grpc_web;
mod guards;
mod hands;
mod harness;
mod held_back;
mod history;
mod hostile_origin;
mod house;
mod http2;
mod idp;
mod inheritance;
mod kept;
mod keys;
mod large;
mod limits;
mod listeners;
mod max_in_flight;
mod messages;
mod mistakes;
mod mutation;
mod openapi;
mod outside;
mod passwords;
mod paths;
mod pools;
mod pressure;
mod priorities;
mod program;
mod quotas;
mod rates;
mod reasons;
mod rehearsals;
mod reload;
mod require;
mod retries;
mod routing;
mod seeing;
mod service;
mod services;
mod shadow;
mod silent;
mod sticky;
mod stores;
mod streams;
mod timeouts;
mod tokens;
mod told;
mod trace_calls;
mod traces;
mod transcode;
mod transform;
mod tunnels;
mod two_versions;
mod upgrades;
mod validate;
mod validators;
mod websocket;
mod why;
