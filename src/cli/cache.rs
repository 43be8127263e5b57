//! `yumen cache purge URL|--tag TAG|--route ROUTE|--all`: what the running gateway keeps is asked for anew.

use clap::{Args, Subcommand};

use super::Exit;
use super::door::{Door, escaped};
use crate::units::Name;

/// What to do about answers that are kept.
#[derive(Subcommand)]
pub(super) enum Deed {
    /// Let nothing of this be served again that was asked for before now.
    Purge(Purge),
}

#[derive(Args)]
pub(super) struct Purge {
    #[command(flatten)]
    door: Door,
    #[command(flatten)]
    what: What,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct What {
    /// An address with its query, e.g. `http://api.example.com/orders?page=1`; https is the same, and so is any port.
    url: Option<String>,
    /// Everything with this tag.
    #[arg(long)]
    tag: Option<String>,
    /// Everything of this route.
    #[arg(long)]
    route: Option<Name>,
    /// Everything.
    #[arg(long)]
    all: bool,
}

pub(super) fn run(deed: &Deed) -> Exit {
    let Deed::Purge(Purge { door, what }) = deed;
    let said = match (&what.url, &what.tag, &what.route) {
        (Some(url), ..) => format!("url={}", escaped(url)),
        (_, Some(tag), _) => format!("tag={}", escaped(tag)),
        (.., Some(route)) => format!("route={route}"),
        _ => "all=yes".to_owned(),
    };
    door.order(&format!("/cache/purge?{said}"))
}
