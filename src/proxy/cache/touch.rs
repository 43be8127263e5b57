//! A request that changes something makes void what is kept of it (RFC 9111 section 4.4).

use http::{Method, Uri, header};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::super::ctx::Ctx;
use crate::canonical;
use crate::policy::cache::store::{Address, Label};

/// Whether the answer is one to a request that changes things, and it went well.
pub(in crate::proxy) fn may_touch(session: &Session, head: &ResponseHeader, ctx: &Ctx) -> bool {
    let stores = ctx.route.as_ref().and_then(|route| route.touches.as_ref());
    stores.is_some()
        && !matches!(session.req_header().method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
        && (head.status.is_success() || head.status.is_redirection())
}

/// Its address and those that the answer names are asked for anew, in all stores.
pub(in crate::proxy) async fn touch(session: &Session, head: &ResponseHeader, ctx: &Ctx) {
    let Some(stores) = ctx.route.as_ref().and_then(|route| route.touches.as_ref()) else { return };
    let request = session.req_header();
    let Some(intake) = &ctx.intake else { return };
    let own = Label::address(&intake.host, request.uri.path(), request.uri.query());
    let named = [header::LOCATION, header::CONTENT_LOCATION].map(|name| {
        let said = head.headers.get(name)?.to_str().ok()?;
        address(said, &intake.host, request.uri.path())
    });
    let all: Vec<_> = [Some(own)].into_iter().chain(named).flatten().collect();
    for store in stores.iter() {
        store.forget(&all).await;
    }
}

/// What an answer names, where it is of the same host: nobody speaks for another one.
fn address(said: &str, host: &str, base: &str) -> Option<Address> {
    let said = said.split('#').next().unwrap_or_default();
    let (path, query) = if said.contains("://") || said.starts_with("//") {
        let absolute = if said.starts_with("//") { format!("http:{said}") } else { said.to_owned() };
        let uri: Uri = absolute.parse().ok()?;
        let (named, _) = canonical::host(uri.authority()?.as_str()).ok()?;
        if *named != *host {
            return None;
        }
        (uri.path().to_owned(), uri.query().map(str::to_owned))
    } else {
        let (path, query) = said.split_once('?').map_or((said, None), |(path, query)| (path, Some(query)));
        let path = match path {
            "" => base.to_owned(),
            _ if path.starts_with('/') => path.to_owned(),
            // Beside the path that was asked for.
            _ => format!("{}/{path}", base.rsplit_once('/').map_or("", |(directory, _)| directory)),
        };
        (path, query.map(str::to_owned))
    };
    let path = canonical::path(path.as_bytes()).ok()?;
    Some(Label::address(host, &path, query.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_addresses_of_its_own_host_only() {
        let of = |said| address(said, "a.example", "/orders/7");
        let is = |path, query| Some(Label::address("a.example", path, query));
        assert_eq!(of("/orders/8?x=1#y"), is("/orders/8", Some("x=1")));
        assert_eq!(of("8"), is("/orders/8", None));
        assert_eq!(of("?x=1"), is("/orders/7", Some("x=1")));
        assert_eq!(of("https://A.example:8443/x/../y"), is("/y", None));
        assert_eq!(of("//a.example/y"), is("/y", None));
        assert_eq!(of("http://b.example/orders/7"), None);
        assert_eq!(of("http:///x"), None);
    }
}
