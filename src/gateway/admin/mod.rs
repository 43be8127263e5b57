//! The admin door: health, readiness, metrics, status, limits, pages for people, and the order to reload. Nothing changes by
//! GET.

mod cache;
mod connections;
mod diff;
pub(super) mod hand;
mod health;
mod history;
mod hold;
mod html;
mod limits;
mod order;
mod page;
mod said;
mod why;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde_json::json;
use tokio::sync::watch;

use self::page::{Answer, allow, figures, page, text};
use super::door;
use super::listen::{Listeners, Worker};
use super::reload::Reloader;
use crate::canonical;
use crate::config::Loaded;
use crate::listener::{CONTROL, Listener, connection_of};
use crate::snapshot::{Live, openapi};
use crate::units::Address;

/// Answers on the admin listener.
pub struct Admin {
    live: Arc<Live>,
    reloader: Arc<Reloader>,
    lately: Arc<html::history::History>,
    /// Kept, for to its listeners a dropped sender is the end.
    _open: watch::Sender<bool>,
}

/// The admin listener, on the runtime of the caller; it serves until the process ends, through the drain too.
pub fn listeners(live: &Arc<Live>, reloader: &Arc<Reloader>) -> Listeners<Admin> {
    let (open, never) = watch::channel(false);
    let lately = Arc::new(html::history::History::default());
    reloader.keeper().once(lately.clone().follow(live.clone()));
    let app = Arc::new(Admin { live: live.clone(), reloader: reloader.clone(), lately, _open: open });
    let here = vec![Worker { runtime: tokio::runtime::Handle::current(), app }];
    Listeners::new(here, door::door(live.clone()), never)
}

/// Listens where the snapshot says; a socket file is for the user of the gateway alone.
pub fn listen(listeners: &Listeners<Admin>, wanted: &[Arc<Listener>]) -> Result<(), String> {
    listeners.apply(wanted.to_vec()).map_err(|why| why.to_string())?;
    for path in wanted.iter().flat_map(|listener| &listener.binds).filter_map(Address::socket_file) {
        let ours_alone = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path, ours_alone).map_err(|why| format!("{}: {why}", path.display()))?;
    }
    Ok(())
}

/// Whether a browser says that a page of another origin asks (Fetch Metadata, and `Origin` where that is not known).
fn is_foreign(headers: &HeaderMap) -> bool {
    let said = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let site = said("sec-fetch-site").is_some_and(|site| site != b"same-origin" && site != b"none");
    let host = said("host").unwrap_or_default();
    let is_ours =
        |origin: &[u8]| [&b"http://"[..], b"https://"].iter().any(|scheme| origin == [*scheme, host].concat());
    site || said("origin").is_some_and(|origin| !is_ours(origin))
}

/// What there is to see by GET, and to order by POST.
const LOOKS: &str =
    "/livez /readyz /health /metrics /status /routes /pools /limits /certs /connections /history /why /openapi.json";
const ORDERS: [&str; 8] =
    ["/reload", "/rollback", "/diff", "/breaker", "/target", "/log-level", "/upgrade", "/cache/purge"];

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Answer {
        let request = session.req_header();
        let (method, path) = (request.method.clone(), request.uri.path().to_owned());
        let query = request.uri.query().unwrap_or_default().to_owned();
        let host = request.headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
        if !host.is_some_and(|host| self.knows(&host)) {
            return text(StatusCode::MISDIRECTED_REQUEST, "this door answers to its own names only (admin.hosts)\n");
        }
        if method == Method::POST && is_foreign(&request.headers) {
            return text(StatusCode::FORBIDDEN, "this door takes no orders from pages of other sites\n");
        }
        match method {
            Method::POST if path == "/upgrade" => order::upgrade(&self.reloader, is_control(session), &query).await,
            Method::POST if path == "/diff" => diff::diff(session, &self.reloader).await,
            Method::POST => self.order(&path, &query).await,
            Method::GET | Method::HEAD => {
                let (headers, asks) = (&request.headers, !is_foreign(&request.headers));
                match if html::is_wanted(headers) { self.show(&path, &query, asks).await } else { html::part(&path) } {
                    Some(page) => page,
                    None => self.look(&path, &query).await,
                }
            }
            _ if ORDERS.contains(&path.as_str()) => allow("POST"),
            _ => allow("GET, HEAD"),
        }
    }
}

/// Whether the request came through the socket that only the user of the gateway can open.
fn is_control(session: &ServerSession) -> bool {
    let connection = session.digest().and_then(connection_of);
    connection.is_some_and(|connection| connection.listener.name.as_str() == CONTROL)
}

impl Admin {
    /// A page on some other site must not reach us through a name that its owner points here (DNS rebinding).
    fn knows(&self, host: &str) -> bool {
        let Ok((name, _)) = canonical::host(host) else { return false };
        let ip = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        ip.is_ok() || name == "localhost" || self.live.load().admin_hosts.iter().any(|known| *known == *name)
    }

    /// The page for people, where there is one; `asks` is whether this door itself is what asks.
    async fn show(&self, path: &str, query: &str, asks: bool) -> Option<Answer> {
        Some(match path {
            "/" => html::overview(&self.live, &self.reloader, &self.lately),
            "/routes" => html::routes(&self.live, query, asks).await,
            "/pools" => html::list("pools.html", &json!(self.live.load().pool_states())),
            "/certs" => html::list("certs.html", &connections::certs(&self.live)),
            "/why" => {
                let (status, told) = why::told(&self.live, query);
                html::why(status, &told, said::Said(query).get("id").as_deref())
            }
            _ => return html::part(path),
        })
    }

    async fn look(&self, path: &str, query: &str) -> Answer {
        match path {
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => health::ready(&self.live),
            "/health" => health::health(&self.live),
            "/metrics" => figures(self.live.tools.metrics.render()),
            "/status" => self.status(),
            "/certs" => page(StatusCode::OK, &connections::certs(&self.live)),
            "/connections" => connections::connections(&self.live, &self.reloader),
            "/routes" => page(StatusCode::OK, &self.live.load().describe_routes()),
            "/pools" => page(StatusCode::OK, &json!(self.live.load().pool_states())),
            "/why" => why::why(&self.live, query),
            "/history" => history::history(&self.reloader),
            "/openapi.json" => self.openapi(),
            "/limits" => limits::limits(&self.live, query).await,
            order if ORDERS.contains(&order) => allow("POST"),
            _ => text(StatusCode::NOT_FOUND, &format!("{LOOKS}, POST {}\n", ORDERS.join(", POST "))),
        }
    }

    /// What serves, for those who call it.
    fn openapi(&self) -> Answer {
        let snapshot = self.live.load_full();
        page(StatusCode::OK, &openapi::merged(&Loaded::again(&snapshot.texts).document, &snapshot.routes).document)
    }

    fn status(&self) -> Answer {
        let mut status = self.reloader.status();
        if let Some(status) = status.as_object_mut() {
            status.insert("by_hand".to_owned(), hand::held(&self.live));
        }
        page(StatusCode::OK, &status)
    }

    async fn order(&self, path: &str, query: &str) -> Answer {
        match path {
            "/reload" if query == "wait" => order::reload_and_wait(&self.reloader).await,
            "/reload" => order::reload(&self.reloader),
            "/rollback" => history::roll_back(&self.reloader, query).await,
            "/cache/purge" => cache::purge(&self.live, query).await,
            "/breaker" => hand::hold(&self.live, query),
            "/target" => hand::weigh(&self.live, &self.reloader, query),
            "/log-level" => hand::log_level(&self.reloader, query),
            _ => allow("GET, HEAD"),
        }
    }
}
