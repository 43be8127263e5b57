//! `yumen target POOL TARGET drain|WEIGHT|auto --for 10m`: a target gets no new requests, or more or fewer, for a while.

use clap::Args;

use super::Exit;
use super::door::{Door, escaped};
use crate::units::{self, Name};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    door: Door,
    /// The pool.
    pool: Name,
    /// The target, as `yumen pools` names it, or its address.
    target: String,
    /// `drain`, a weight, or `auto` for its own weight again.
    #[arg(value_parser = to)]
    to: String,
    /// For how long, e.g. 10m; at most 24h.
    #[arg(long = "for", value_name = "TIME")]
    length: Option<units::Duration>,
}

fn to(text: &str) -> Result<String, String> {
    let known = text == "drain" || text == "auto" || text.parse::<u16>().is_ok();
    if known { Ok(text.to_owned()) } else { Err("it is drain, auto or a weight".to_owned()) }
}

pub(super) fn run(options: &Options) -> Exit {
    let length = options.length.map(|length| format!("&for={length}")).unwrap_or_default();
    let (pool, to) = (&options.pool, &options.to);
    options.door.order(&format!("/target?pool={pool}&target={}&to={to}{length}", escaped(&options.target)))
}
