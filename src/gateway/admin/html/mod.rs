//! The admin door for people: pages that are read and never change anything, the same facts as the JSON beside them.
//!
//! Everything is written by the server and escaped by the templates; a page works without its module, which only fetches
//! it again. Nothing is loaded from elsewhere, and nothing inline is run: the browser is told so.

mod explain;
mod form;
pub(super) mod history;
mod overview;

use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value as Given, context};
use serde_json::{Value, json};

pub(super) use self::explain::routes;
pub(super) use self::overview::overview;
use super::page::{Answer, text};

/// What a browser may do with a page.
const POLICY: &str =
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

static TEMPLATES: [(&str, &str); 8] = [
    ("base.html", include_str!("base.html")),
    ("overview.html", include_str!("overview.html")),
    ("routes.html", include_str!("routes.html")),
    ("pools.html", include_str!("pools.html")),
    ("certs.html", include_str!("certs.html")),
    ("why.html", include_str!("why.html")),
    ("table.html", include_str!("table.html")),
    ("request.html", include_str!("request.html")),
];

/// A broken template is found by the tests, which render each.
static PAGES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut pages = Environment::new();
    pages.set_auto_escape_callback(|_| AutoEscape::Html);
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        pages.set_syntax(syntax);
    }
    pages.add_filter("query", |text: &str| form::escaped(text));
    pages.add_filter("ago", |seconds: u64| ago(seconds));
    pages.add_filter("ms", |millis: f64| milliseconds(millis));
    for (name, template) in TEMPLATES {
        if let Err(why) = pages.add_template(name, template) {
            log::error!("{name}: {why}");
        }
    }
    pages
});

/// Whether a browser asks, in place of a program.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    accepts
        .flat_map(|accept| accept.split(','))
        .any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "text/html"))
}

/// What pages are made of; nothing where it is none of that.
pub(super) fn part(path: &str) -> Option<Answer> {
    let (kind, bytes) = match path {
        "/yumen.css" => ("text/css; charset=utf-8", &include_bytes!("yumen.css")[..]),
        "/yumen.js" => ("text/javascript; charset=utf-8", &include_bytes!("yumen.js")[..]),
        "/yumen.svg" => ("image/svg+xml", &include_bytes!("yumen.svg")[..]),
        _ => return None,
    };
    Some(sent(StatusCode::OK, kind, bytes.to_vec()))
}

/// A page by its template; `of` is what it shows.
fn page(status: StatusCode, name: &str, of: &Value) -> Answer {
    let given = context! { version => env!("CARGO_PKG_VERSION"), page => name, ..Given::from(Serde(of)) };
    match PAGES.get_template(name).and_then(|template| template.render(given)) {
        Ok(page) => sent(status, "text/html; charset=utf-8", page.into_bytes()),
        Err(why) => {
            log::error!("{name}: {why:#}");
            text(StatusCode::INTERNAL_SERVER_ERROR, "this page cannot be shown; the log says why\n")
        }
    }
}

fn sent(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Vec::new());
    *answer.status_mut() = status;
    let fields = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "accept"),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    fields.insert(header::CONTENT_LENGTH, body.len().into());
    *answer.body_mut() = body;
    answer
}

/// The pools, or the certificates: a list as it is told to programs.
pub(super) fn list(name: &'static str, rows: &Value) -> Answer {
    page(StatusCode::OK, name, &json!({ "rows": rows }))
}

/// The last refusals and failures, or one of them; `told` is what programs are told.
pub(super) fn why(status: StatusCode, told: &Value, id: Option<&str>) -> Answer {
    let name = if id.is_some() { "request.html" } else { "why.html" };
    page(status, name, &json!({ "told": told, "id": id }))
}

/// How long ago, in one unit.
fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A time that people compare: three digits are enough.
fn milliseconds(millis: f64) -> String {
    match millis {
        0.0..10.0 => format!("{millis:.1} ms"),
        10.0..1000.0 => format!("{millis:.0} ms"),
        _ => format!("{:.1} s", millis / 1000.0),
    }
}
