//! The routes, and a box that says what would become of a request: what `yumen explain` says, of what serves.

use http::StatusCode;
use serde_json::{Value, json};

use super::form::field;
use super::page;
use crate::config::case::Who;
use crate::gateway::admin::page::Answer;
use crate::gateway::ask::{self, Ask};
use crate::snapshot::Live;

/// What is asked in the box; empty where nobody asks.
struct Asked {
    method: String,
    url: String,
    client: String,
    who: Option<String>,
    head: Option<String>,
}

impl Asked {
    fn of(query: &str) -> Self {
        let said = |name| field(query, name);
        Self {
            method: said("method").unwrap_or_else(|| "GET".to_owned()),
            url: said("url").unwrap_or_default(),
            client: said("client").unwrap_or_else(|| "127.0.0.1".to_owned()),
            who: said("as"),
            head: said("head"),
        }
    }

    async fn answer(&self, live: &Live) -> Result<Value, String> {
        let snapshot = live.load_full();
        let lines = self.head.iter().flat_map(|head| head.lines());
        let head = lines.map(|line| {
            let (name, value) = line.split_once(':').ok_or_else(|| format!("`{line}`: write it as `name: value`"))?;
            Ok::<_, String>((name.trim().to_owned(), value.trim().to_owned()))
        });
        let asked = Ask {
            method: &self.method,
            url: &self.url,
            head: head.collect::<Result<_, _>>()?,
            client: self.client.parse().map_err(|_| format!("`{}` is no address", self.client))?,
            listener: None,
            sni: None,
            who: self.who.as_deref().map(str::parse::<Who>).transpose()?.map(|who| who.identity()),
            body: Vec::new(),
            length: None,
        };
        let verdict = asked.judge((&*snapshot).into()).await?;
        Ok(ask::told(&self.method, &verdict))
    }
}

/// The routes; `asks` is whether this page itself is what asks, and not one of another site.
pub(in crate::gateway::admin) async fn routes(live: &Live, query: &str, asks: bool) -> Answer {
    let asked = Asked::of(query);
    let answer = if asks && !asked.url.is_empty() { Some(asked.answer(live).await) } else { None };
    let (answer, wrong) = match answer {
        Some(Ok(answer)) => (Some(answer), None),
        Some(Err(why)) => (None, Some(why)),
        None => (None, None),
    };
    page(
        StatusCode::OK,
        "routes.html",
        &json!({
            "rows": live.load().describe_routes(),
            "asked": {
                "method": asked.method, "url": asked.url, "client": asked.client, "as": asked.who, "head": asked.head,
            },
            "answer": answer,
            "wrong": wrong,
        }),
    )
}
