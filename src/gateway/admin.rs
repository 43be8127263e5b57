//! The admin door: health, readiness, metrics, status, limits, and the order to reload. Nothing changes by GET.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use async_trait::async_trait;
use http::{Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::door;
use super::hold::Hold;
use super::listen::{Listeners, Worker};
use super::reload::Reloader;
use crate::canonical;
use crate::listener::Listener;
use crate::pool::PoolState;
use crate::snapshot::Live;
use crate::units::Address;

/// Answers on the admin listener.
pub struct Admin {
    live: Arc<Live>,
    reloader: Arc<Reloader>,
    /// Kept, for to its listeners a dropped sender is the end.
    _open: watch::Sender<bool>,
}

/// The admin listener, on the runtime of the caller; it serves until the process ends, through the drain too.
pub fn listeners(live: &Arc<Live>, reloader: &Arc<Reloader>) -> Listeners<Admin> {
    let (open, never) = watch::channel(false);
    let app = Arc::new(Admin { live: live.clone(), reloader: reloader.clone(), _open: open });
    Listeners::new(vec![Worker { runtime: tokio::runtime::Handle::current(), app }], door::door(live.clone()), never)
}

/// Listens where the snapshot says; a socket file is for the user of the gateway alone.
pub fn listen(listeners: &Listeners<Admin>, listener: &Arc<Listener>) -> Result<(), String> {
    listeners.apply(vec![listener.clone()]).map_err(|why| why.to_string())?;
    for path in listener.binds.iter().filter_map(Address::socket_file) {
        let ours_alone = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path, ours_alone).map_err(|why| format!("{}: {why}", path.display()))?;
    }
    Ok(())
}

type Answer = Response<Vec<u8>>;

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Answer {
        let request = session.req_header();
        let (method, path) = (request.method.clone(), request.uri.path().to_owned());
        let query = request.uri.query().map(str::to_owned);
        let host = request.headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
        if !host.is_some_and(|host| self.knows(&host)) {
            return text(StatusCode::MISDIRECTED_REQUEST, "this door answers to its own names only (admin.hosts)\n");
        }
        match (&method, path.as_str()) {
            (&Method::POST, "/reload") if query.as_deref() == Some("wait") => self.reload().await,
            (&Method::POST, "/reload") => self.order(),
            (&Method::GET | &Method::HEAD, "/limits") => self.limits(query.as_deref().unwrap_or_default()).await,
            (&Method::POST, "/breaker") => self.hold(query.as_deref().unwrap_or_default()),
            (&Method::GET | &Method::HEAD, path) => self.look(path),
            (_, "/reload" | "/breaker") => allow("POST"),
            _ => allow("GET, HEAD"),
        }
    }
}

impl Admin {
    /// A page on some other site must not reach us through a name that its owner points here (DNS rebinding).
    fn knows(&self, host: &str) -> bool {
        let Ok((name, _)) = canonical::host(host) else { return false };
        let ip = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        ip.is_ok() || name == "localhost" || self.live.load().admin_hosts.iter().any(|known| *known == *name)
    }

    fn look(&self, path: &str) -> Answer {
        match path {
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" if self.live.is_draining() => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            "/readyz" => text(StatusCode::OK, "ready\n"),
            "/metrics" => metrics(&self.live),
            "/health" => self.health(),
            "/status" => page(StatusCode::OK, &self.reloader.status()),
            "/routes" => page(StatusCode::OK, &self.live.load().describe_routes()),
            "/pools" => page(StatusCode::OK, &json!(self.live.load().pool_states())),
            "/reload" | "/breaker" => allow("POST"),
            _ => text(
                StatusCode::NOT_FOUND,
                "/livez /readyz /health /metrics /status /routes /pools /limits, POST /reload, POST /breaker\n",
            ),
        }
    }

    /// The state of each pool, and of the whole: `up`, `degraded` (some target or store is down) or `down` (some pool is).
    fn health(&self) -> Answer {
        let pools = self.live.load().pool_states();
        let stores = self.live.load().store_states();
        let any = |state: PoolState| pools.iter().any(|pool| pool.state == state);
        let state = match (any(PoolState::Down), any(PoolState::Degraded)) {
            _ if self.live.is_draining() => "draining",
            (true, _) => "down",
            (_, true) => "degraded",
            _ if stores.iter().any(|store| store.state == "down") => "degraded",
            _ => "up",
        };
        let services: serde_json::Map<String, Value> =
            pools.iter().map(|pool| (pool.name.to_string(), json!(pool))).collect();
        let mut page = json!({ "status": state, "pools": services });
        if let (Some(page), false) = (page.as_object_mut(), stores.is_empty()) {
            let stores: serde_json::Map<String, Value> =
                stores.iter().map(|store| (store.name.to_string(), json!(store))).collect();
            page.insert("stores".to_owned(), stores.into());
        }
        self::page(StatusCode::OK, &page)
    }

    /// Each limit, and with `key=PART` (once for each part of a key) how much that key has used.
    async fn limits(&self, query: &str) -> Answer {
        let said = query.split('&').filter_map(|pair| canonical::unescape(pair.strip_prefix("key=")?));
        let (key, snapshot) = (said.collect::<Vec<_>>(), self.live.load_full());
        let mut limits = serde_json::Map::new();
        for limit in snapshot.limits() {
            limits.insert(limit.name().to_owned(), json!(limit.seen(&key).await));
        }
        page(StatusCode::OK, &limits.into())
    }

    /// Orders a reload without waiting for what becomes of it.
    fn order(&self) -> Answer {
        let reloader = self.reloader.clone();
        self.reloader.keeper().once(async move { drop(reloader.reload("admin").await) });
        page(StatusCode::ACCEPTED, &json!({ "result": "ordered" }))
    }

    /// Holds the breakers of a pool: `pool=orders&to=open&for=10m`, or `to=auto` to let go of them.
    fn hold(&self, query: &str) -> Answer {
        let wrong = |why: String| page(StatusCode::BAD_REQUEST, &json!({ "error": why }));
        let asked = match Hold::of(query) {
            Ok(asked) => asked,
            Err(why) => return wrong(why),
        };
        let snapshot = self.live.load();
        let Some(pool) = snapshot.pools.get(&asked.pool) else {
            let why = format!("there is no pool `{}`", asked.pool);
            return page(StatusCode::NOT_FOUND, &json!({ "error": why }));
        };
        pool.hold(asked.held);
        let sentence = asked.to_string();
        log::warn!("{sentence}, said by hand");
        page(StatusCode::OK, &json!({ "result": sentence }))
    }

    async fn reload(&self) -> Answer {
        let outcome = self.reloader.reload("admin").await;
        let status = if outcome.applied() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
        page(status, &json!(outcome))
    }
}

fn metrics(live: &Live) -> Answer {
    let mut answer = text(StatusCode::OK, &live.tools.metrics.render());
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

fn text(status: StatusCode, body: &str) -> Answer {
    answer(status, "text/plain; charset=utf-8", body.as_bytes().to_vec())
}

fn page(status: StatusCode, value: &Value) -> Answer {
    let mut body = serde_json::to_vec_pretty(value).unwrap_or_default();
    body.push(b'\n');
    answer(status, "application/json", body)
}

fn allow(methods: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    answer.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(methods));
    answer
}

fn answer(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Vec::new());
    *answer.status_mut() = status;
    let fields = answer.headers_mut();
    fields.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    fields.insert(header::CONTENT_LENGTH, body.len().into());
    fields.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    *answer.body_mut() = body;
    answer
}
