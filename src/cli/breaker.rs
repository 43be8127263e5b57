//! `yumen breaker POOL open|close --for 10m`: the running gateway holds the breakers of a pool, always for a while.

use clap::{Args, ValueEnum};

use super::Exit;
use super::door::Door;
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
    options.door.order(&target)
}
