//! One request, from first byte to log line: Pingora's phases, each a few lines, in the order in which they happen.

mod again;
mod batch;
mod bodies;
mod cache;
mod copy;
mod ctx;
mod fail;
mod finish;
mod forward;
mod gather;
mod gone;
mod graphql;
mod grpc_web;
pub mod intake;
mod look;
mod mqtt;
mod pace;
mod parts;
mod reply;
mod response;
mod sent;
mod span;
mod time;
mod transcode;
pub mod trial;
pub mod view;
mod websocket;
mod whole;
mod why;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Version};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora_cache::{CacheKey, CacheMeta, ForcedFreshness, RespCacheable, key::HashBinary, storage::HitHandler};
use pingora_error::{Error, Result, RetryType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, HttpProxy, ProxyHttp, ProxyWarnLogContext, RangeType, Session};

use self::{ctx::Ctx, websocket::Websockets};
use crate::fault::Fault;
use crate::pool::{Pool, connection::Connections, retry::MOST_ATTEMPTS};
use crate::route::Action;
use crate::snapshot::Live;

/// The gateway as Pingora sees it.
pub struct Proxy {
    live: Arc<Live>,
    connections: Arc<Connections>,
    websockets: Websockets,
    aside: Aside,
    own: Arc<batch::Own>,
}

/// Runs work that no request waits for.
pub type Aside = Arc<dyn Fn(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync>;

/// What a worker runs for each request.
pub type App = HttpProxy<Proxy>;

/// One worker's proxy with its own connections to targets; as many of those that Pingora opens are kept while idle.
pub fn app(live: Arc<Live>, connections: Arc<Connections>, aside: Aside) -> Arc<App> {
    let conf = ServerConf {
        threads: 1,
        max_retries: 1 + MOST_ATTEMPTS as usize,
        upstream_keepalive_pool_size: connections.most().max(1),
        ..ServerConf::default()
    };
    let websockets = Websockets::default();
    let own = Arc::new(batch::Own::new());
    let mut app = HttpProxy::new(Proxy { live, connections, websockets, aside, own: own.clone() }, Arc::new(conf));
    app.handle_init_modules();
    let app = Arc::new(app);
    own.get_or_init(|| Arc::downgrade(&app));
    app
}

#[async_trait]
impl ProxyHttp for Proxy {
    /// In a box: Pingora moves it through its futures, which are large enough.
    type CTX = Box<Ctx>;

    fn new_ctx(&self) -> Box<Ctx> {
        Box::default()
    }

    /// None: each would cost something on every request.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    /// Look: make the request safe, find its route.
    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<()> {
        look::look(&self.live, session, ctx)
    }

    /// Decide: answer here, or choose where it goes.
    async fn request_filter(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<bool> {
        let Some(route) = ctx.route.clone() else { return response::redirect_https(session, ctx).await };
        if cache::is_refresh(session) {
            cache::seed(session, ctx);
            return if cache::begin(session, ctx) { Ok(false) } else { Err(Fault::ClientGone.into()) };
        }
        let body = route.guards.is_some() && !session.is_body_empty();
        if let Some(status) = graphql::pass(session, &route, body, ctx).await? {
            return response::by_guard(session, ctx, status).await;
        }
        match &route.action {
            Action::Forward(_) => {
                let upgrades = session.is_upgrade_req();
                let wanted = if upgrades { Some(websocket::check(session, ctx)?) } else { None };
                if !upgrades && transcode::wanted(&route, session.req_header()) {
                    return Box::pin(transcode::serve(session, ctx)).await;
                }
                grpc_web::begin(session.req_header(), ctx);
                bodies::read(session, &route, ctx).await?;
                if route.cache.is_some() && cache::begin(session, ctx) {
                    return cache::at_once(session, ctx).await;
                }
                let instead = ctx.choose(session.req_header()).await?;
                if response::instead(session, ctx, instead.as_deref()).await? {
                    return Ok(true);
                }
                let Some(wanted) = wanted else { return Ok(false) };
                websocket::possible(ctx)?;
                Box::pin(self.websockets.serve(&self.live, session, ctx, &wanted)).await
            }
            Action::Redirect(redirect) => response::redirect(session, ctx, redirect).await,
            Action::Respond(respond) => response::respond(session, ctx, respond).await,
            Action::Publish(publish) => Box::pin(mqtt::publish(session, ctx, publish)).await,
            Action::Subscribe(subscribe) => Box::pin(mqtt::stream(&self.live, session, ctx, subscribe)).await,
            Action::Gather(gather) => gather::answer(session, ctx, gather).await,
            Action::Batch(batch) => Box::pin(batch::answer(session, ctx, batch, self)).await,
        }
    }

    fn allow_spawning_subrequest(&self, _: &Session, ctx: &Box<Ctx>) -> bool {
        ctx.route.as_ref().is_some_and(|route| route.cache.is_some())
    }

    /// Remember: what is kept may serve.
    fn request_cache_filter(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<()> {
        if ctx.cached.is_some() {
            cache::enable(session, ctx);
        }
        Ok(())
    }

    fn cache_key_callback(&self, session: &Session, ctx: &mut Box<Ctx>) -> Result<CacheKey> {
        cache::key(session, ctx)
    }

    async fn cache_hit_filter(
        &self,
        session: &mut Session,
        meta: &CacheMeta,
        _: &mut HitHandler,
        fresh: bool,
        ctx: &mut Box<Ctx>,
    ) -> Result<Option<ForcedFreshness>> {
        Ok(cache::found(session, meta, fresh, ctx, &self.aside))
    }

    fn cache_vary_filter(&self, meta: &CacheMeta, ctx: &mut Box<Ctx>, request: &RequestHeader) -> Option<HashBinary> {
        cache::vary(meta, request, ctx)
    }

    fn cache_miss(&self, session: &mut Session, _: &mut Box<Ctx>) {
        cache::missed(session);
    }

    fn range_header_filter(&self, session: &mut Session, head: &mut ResponseHeader, _: &mut Box<Ctx>) -> RangeType {
        parts::of(session.req_header(), head)
    }

    /// Nothing serves: choose where it goes.
    async fn proxy_upstream_filter(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<bool> {
        cache::expect(session, ctx);
        if ctx.cached.is_some() { cache::miss(session, ctx).await } else { Ok(true) }
    }

    fn response_cache_filter(
        &self,
        session: &Session,
        head: &ResponseHeader,
        ctx: &mut Box<Ctx>,
    ) -> Result<RespCacheable> {
        cache::judge(session, head, ctx)
    }

    fn should_serve_stale(&self, _: &mut Session, ctx: &mut Box<Ctx>, error: Option<&Error>) -> bool {
        cache::may_stand_in(ctx, error)
    }

    /// Look at the body as it passes.
    async fn request_body_filter(
        &self,
        session: &mut Session,
        piece: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        sent::piece(session, piece, end, ctx, &self.aside)
    }

    /// Send there: the target of this try was chosen already.
    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<Box<HttpPeer>> {
        if let Some(fault) = cache::unchosen(ctx) {
            return Err(fault.into());
        }
        again::pause(ctx).await;
        again::begin(ctx, Instant::now());
        let (Some(picked), Some(route)) = (&ctx.picked, &ctx.route) else { return Err(Fault::GatewayInternal.into()) };
        let mut timeouts = picked.timeouts(route.timeout.as_ref());
        if time::is_stream(session.req_header()) {
            timeouts.to_mut().stream(picked.waits_alike());
        }
        if ctx.upstream.tries == 1 {
            ctx.upstream.end = time::end(&timeouts, session.req_header(), ctx.started);
        }
        if ctx.is_over() {
            return Err(Fault::UpstreamTimeoutTotal.into());
        }
        let end = ctx.upstream.end.as_ref().map(|end| end.at);
        let once = !session.req_header().method.is_idempotent();
        let (peer, errand) = picked.peer(&timeouts, end, once, &self.connections);
        ctx.upstream.errand = errand;
        pace::begin(session, ctx);
        Ok(peer)
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _: &HttpPeer,
        ctx: &mut Box<Ctx>,
        mut e: Box<Error>,
    ) -> Box<Error> {
        e.retry = RetryType::Decided(again::after_no_connection(session, ctx, &e));
        e
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        reused: bool,
        _: &HttpPeer,
        _: std::os::fd::RawFd,
        _: Option<&Digest>,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        // Pingora takes every connection of our own for a new one.
        let reused = ctx.upstream.errand.as_ref().map_or(reused, |errand| errand.reused());
        ctx.upstream.reused = reused;
        if let Some(counted) = ctx.pool.as_deref().and_then(Pool::counted) {
            counted.connected(reused);
        }
        Ok(())
    }

    /// Send.
    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        out: &mut RequestHeader,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        ctx.upstream.shares = out.version == Version::HTTP_2;
        forward::request(out, session.req_header().version, ctx)?;
        whole::frame(out, ctx)?;
        bodies::ask(out, ctx)?;
        graphql::ask(out, ctx)?;
        grpc_web::ask(out, ctx);
        copy::begin(session, out, ctx, &self.live);
        Ok(())
    }

    /// Once more, or not.
    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut e: Box<Error>,
        ctx: &mut Box<Ctx>,
        _: bool,
    ) -> Box<Error> {
        e.retry = RetryType::Decided(again::after_a_loss(session, ctx, &e));
        e
    }

    /// Once more, or this answer.
    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        if ctx.cached.is_some() {
            cache::renew(session, head, ctx);
        }
        again::or_this(session, ctx, head)
    }

    /// Answer.
    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        if cache::is_kept(session, head, ctx) {
            return response::kept(&self.live, session, head, ctx).await;
        }
        response::forwarded(session, head, ctx)?;
        cache::passed(session, head, ctx).await?;
        grpc_web::answered(head, ctx)?;
        bodies::begin(session, head, ctx)
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        piece: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Box<Ctx>,
    ) -> Result<Option<Duration>> {
        cache::weigh(session, ctx);
        grpc_web::received(piece, end, ctx);
        bodies::piece(session, piece, end, ctx)?;
        Ok(None)
    }

    async fn response_trailer_filter(
        &self,
        session: &mut Session,
        trailers: &mut HeaderMap,
        ctx: &mut Box<Ctx>,
    ) -> Result<Option<Bytes>> {
        response::trailers(trailers);
        let rest = match grpc_web::trailers(trailers, ctx) {
            None => bodies::rest(session, ctx),
            mut frame => bodies::piece(session, &mut frame, true, ctx).map(|()| frame),
        };
        if let Err(e) = &rest {
            fail::at_the_end(&self.live, session, e, ctx).await;
        }
        rest
    }

    fn upstream_response_body_filter(
        &self,
        _: &mut Session,
        _: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Box<Ctx>,
    ) -> Result<Option<Duration>> {
        if end {
            ctx.upstream.ended = Some(Instant::now());
        } else if ctx.is_over() {
            return Err(Fault::UpstreamTimeoutTotal.into());
        }
        Ok(None)
    }

    /// Apologise.
    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, ctx: &mut Box<Ctx>) -> FailToProxy {
        fail::apologise(&self.live, session, e, ctx).await
    }

    /// Tell.
    async fn logging(&self, session: &mut Session, e: Option<&Error>, ctx: &mut Box<Ctx>) {
        fail::unless_told(&self.live, session, e, ctx).await;
        cache::go_on(session, ctx, &self.aside);
        finish::of_session(&self.live, session, ctx);
    }

    fn suppress_error_log(&self, _: &Session, _: &Box<Ctx>, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(&self, _: &Session, _: &Box<Ctx>, _: &Error, _: ProxyWarnLogContext) -> bool {
        true
    }
}
