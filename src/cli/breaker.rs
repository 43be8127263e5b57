//! `yumen breaker POOL open|close --for 10m`: the running gateway holds the breakers of a pool, always for a while.

use clap::{Args, ValueEnum};
use http::Method;
use serde_json::Value;

use super::door::Door;
use super::{Exit, fail};
use crate::units::{self, Name};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    door: Door,
    /// The pool.
    pool: Name,
    /// What its breakers do.
    to: To,
    /// For how long, e.g. 10m; at most 24h.
    #[arg(long = "for", value_name = "TIME", required_if_eq_any([("to", "open"), ("to", "close")]))]
    length: Option<units::Duration>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
enum To {
    /// No request goes through: the fallback serves, or the answer is 503 `breaker.open`.
    Open,
    /// All requests go through, whatever they come back with.
    Close,
    /// They decide again by what they learn.
    Auto,
}

pub(super) fn run(options: &Options) -> Exit {
    let to = match options.to {
        To::Open => "open",
        To::Close => "close",
        To::Auto => "auto",
    };
    let length = options.length.map(|length| format!("&for={length}")).unwrap_or_default();
    let target = format!("/breaker?pool={}&to={to}{length}", options.pool);
    let answer = match options.door.ask(Method::POST, &target) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    let page = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    let word = |key: &str| page.get(key).and_then(Value::as_str).unwrap_or_default();
    match answer.status {
        200 => super::print(&format!("{}\n", word("result"))),
        400 | 404 => fail(Exit::Usage, word("error")),
        status => fail(Exit::Internal, &format!("the gateway answered {status}")),
    }
}
