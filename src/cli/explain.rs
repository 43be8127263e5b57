//! `yumen explain`: where a request would go and why, from the document alone.

use clap::Args;
use http::{HeaderName, HeaderValue, Method};

use super::{Document, Exit, fail};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    document: Document,
    /// The method, e.g. GET.
    method: Method,
    /// The URL, e.g. <https://api.example.com/orders/7>.
    url: String,
    /// A header field, e.g. `x-canary: yes`; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = field)]
    headers: Vec<(HeaderName, HeaderValue)>,
}

fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write it as `name: value`")?;
    let name = name.trim().parse().map_err(|_| format!("`{name}` is not the name of a header field"))?;
    let value = value.trim().parse().map_err(|_| format!("`{value}` is not the value of a header field"))?;
    Ok((name, value))
}
pub(super) fn run(_: &Options) -> Exit { Exit::Fine }
