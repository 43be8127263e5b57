//! Purges what is kept: `url=http://api.example.com/x?y=1`, `tag=t`, `route=orders` or `all=yes`, in all stores.

use http::StatusCode;
use serde_json::json;

use super::page::{Answer, page, wrong};
use super::said::Said;
use crate::canonical;
use crate::policy::cache::store::Label;
use crate::snapshot::{Live, Snapshot};

pub(super) async fn purge(live: &Live, query: &str) -> Answer {
    let snapshot = live.load().clone();
    let (labels, what) = match label(&snapshot, Said(query)) {
        Ok(asked) => asked,
        Err((status, why)) => return wrong(status, &why),
    };
    let Some(stores) = &snapshot.caches else { return wrong(StatusCode::NOT_FOUND, "no route has a cache") };
    let mut down = 0;
    for store in stores.iter() {
        down += usize::from(!store.purge(&labels).await);
    }
    let count = |stores: usize| format!("{stores} store{}", if stores == 1 { "" } else { "s" });
    if down > 0 {
        let why = format!("{what} is not purged in {}, which cannot be reached", count(down));
        return wrong(StatusCode::SERVICE_UNAVAILABLE, &why);
    }
    page(StatusCode::OK, &json!({ "result": format!("purged {what} in {}", count(stores.len())) }))
}

fn label(snapshot: &Snapshot, said: Said<'_>) -> Result<(Vec<Label>, String), (StatusCode, String)> {
    let asked = ["url", "tag", "route", "all"].map(|key| said.get(key));
    let bad = |why: &str| (StatusCode::BAD_REQUEST, why.to_owned());
    match asked {
        [Some(url), None, None, None] => {
            let labels =
                address(&url).ok_or_else(|| bad("`url` is no address, e.g. http://api.example.com/orders?page=1"))?;
            Ok((labels, url))
        }
        [None, Some(tag), None, None] => Ok((vec![Label::tag(tag.as_bytes())], format!("tag {tag}"))),
        [None, None, Some(route), None] => {
            if !snapshot.routes.iter().any(|known| known.name.as_str() == route && known.cache.is_some()) {
                return Err((StatusCode::NOT_FOUND, format!("no route `{route}` with a cache")));
            }
            Ok((vec![Label::route(&route)], format!("route {route}")))
        }
        [None, None, None, Some(_)] => Ok((vec![Label::ALL], "all".to_owned())),
        _ => Err(bad("needs one of `url`, `tag`, `route` and `all`")),
    }
}

fn address(url: &str) -> Option<Vec<Label>> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, _) = canonical::host(host).ok()?;
    let path = canonical::path(if path.is_empty() { b"/" } else { path.as_bytes() }).ok()?;
    Some(Label::address(&host, &path, query).into_iter().map(|(_, label)| label).collect())
}
