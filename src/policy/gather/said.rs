//! Text with `$` in it: what a request says, who sends it, and what earlier calls brought.
//!
//! ```text
//! $jwt.sub  $consumer  $path.id  $query.q  $header.x-tenant  $cookie.s  $host  $client.ip  $body.items.0.id
//! $user.address.city          of the result of the call `user`
//! ${path.id}.json  $$         a name that ends before the dot; a dollar
//! ```

use http::HeaderName;

use super::call::Terms;
use crate::problem::nearest;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A claim of a verified token.
    Jwt(Box<[Box<str>]>),
    Consumer,
    Path(Box<str>),
    Query(Box<str>),
    Header(HeaderName),
    Cookie(Box<str>),
    Host,
    Client,
    /// Of the request's body, which is JSON then.
    Body(Box<[Box<str>]>),
    /// Of the result of a call, by its place among them.
    Call(usize, Box<[Box<str>]>),
}

/// One part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Plain(Box<str>),
    From(Source),
}

/// What is not the name of a call.
const ROOTS: [&str; 9] = ["jwt", "consumer", "path", "query", "header", "cookie", "host", "client", "body"];

/// Whether `$NAME` means something else than a call.
pub fn is_root(name: &str) -> bool {
    ROOTS.contains(&name)
}

/// The parts of a text.
pub fn read(text: &str, terms: &Terms<'_>) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = (rest.get(..at).unwrap_or_default(), rest.get(at + 1..).unwrap_or_default());
        plain.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            plain.push('$');
            rest = after;
            continue;
        }
        let (name, left) = name(after).ok_or_else(|| {
            format!("`{text}`: behind `$` stands where a value comes from, e.g. $jwt.sub; a plain `$` is written $$")
        })?;
        if !plain.is_empty() {
            parts.push(Part::Plain(std::mem::take(&mut plain).into()));
        }
        parts.push(Part::From(source(name, terms)?));
        rest = left;
    }
    plain.push_str(rest);
    if !plain.is_empty() || parts.is_empty() {
        parts.push(Part::Plain(plain.into()));
    }
    Ok(parts)
}

/// The name that the text begins with, and what follows it: letters, digits and `_`; `-` and `.` only between them.
fn name(text: &str) -> Option<(&str, &str)> {
    if let Some(braced) = text.strip_prefix('{') {
        let (name, rest) = braced.split_once('}')?;
        return (!name.is_empty()).then_some((name, rest));
    }
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    let fits = |at: usize| match bytes.get(at) {
        Some(b'-' | b'.') => at > 0 && bytes.get(at + 1).copied().is_some_and(is_word),
        Some(byte) => is_word(*byte),
        None => false,
    };
    let end = (0..text.len()).find(|at| !fits(*at)).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(name, _)| !name.is_empty())
}

fn source(name: &str, terms: &Terms<'_>) -> Result<Source, String> {
    let (root, rest) = name.split_once('.').map_or((name, None), |(root, rest)| (root, Some(rest)));
    let needed =
        |what: &str| rest.map(Box::<str>::from).ok_or_else(|| format!("`${name}` needs a name: ${root}.{what}"));
    let steps = || rest.into_iter().flat_map(|rest| rest.split('.')).map(Box::from).collect();
    match root {
        "jwt" | "consumer" if !terms.has_auth => {
            Err(format!("`${name}` asks who sends the request, and the route has no `auth`"))
        }
        "jwt" => needed("sub").map(|_| Source::Jwt(steps())),
        "consumer" if rest.is_none() => Ok(Source::Consumer),
        "path" => {
            let param = needed("id")?;
            let known = |offer: &crate::policy::template::Offer| offer.names.contains(&param);
            if terms.offers.iter().all(known) {
                Ok(Source::Path(param))
            } else {
                Err(format!("`:{param}` is not in the route's match"))
            }
        }
        "query" => needed("q").map(Source::Query),
        "cookie" => needed("name").map(Source::Cookie),
        "header" => {
            let field = needed("x-tenant")?;
            field.parse().map(Source::Header).map_err(|_| format!("`{field}` is not the name of a header field"))
        }
        "host" if rest.is_none() => Ok(Source::Host),
        "client" if rest == Some("ip") => Ok(Source::Client),
        "body" => Ok(Source::Body(steps())),
        _ => {
            let call = terms.names.iter().position(|call| *call == root);
            call.map(|at| Source::Call(at, steps())).ok_or_else(|| {
                let known = ROOTS.into_iter().chain(terms.names.iter().copied());
                let near = nearest(root, known).map(|near| format!(". Did you mean `${near}`?"));
                format!("`${name}` is neither a call nor something of the request{}", near.unwrap_or_default())
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::template::Offer;

    fn told(text: &str) -> Result<String, String> {
        let offers = [Offer { names: vec!["id".into()], rest: false, literal: None }];
        let terms = Terms { names: &["user", "my-cart"], offers: &offers, has_auth: true };
        let word = |part: &Part| match part {
            Part::Plain(text) => text.to_string(),
            Part::From(source) => format!("<{source:?}>").replace(['"', ' '], ""),
        };
        Ok(read(text, &terms)?.iter().map(word).collect())
    }

    #[test]
    fn a_text_is_what_is_written_and_what_is_said() {
        for (text, parts) in [
            ("/users/$jwt.sub", "/users/<Jwt([sub])>"),
            ("/a/$path.id-$path.id/", "/a/<Path(id)>-<Path(id)>/"),
            ("${path.id}.json", "<Path(id)>.json"),
            ("$user.a.0.b?", "<Call(0,[a,0,b])>?"),
            ("$my-cart.", "<Call(1,[])>."),
            ("$header.X-Tenant", "<Header(x-tenant)>"),
            ("$body $host$client.ip", "<Body([])> <Host><Client>"),
            ("5 $$ and $$x", "5 $ and $x"),
            ("", ""),
        ] {
            assert_eq!(told(text).unwrap(), parts, "{text}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (text, why) in [
            ("/$", "behind `$` stands where a value comes from"),
            ("${}", "behind `$` stands"),
            ("${path.id", "behind `$` stands"),
            ("$usr.name", "Did you mean `$user`?"),
            ("$path.ip", "`:ip` is not in the route's match"),
            ("$jwt", "`$jwt` needs a name: $jwt.sub"),
            ("$header.a b", ""),
            ("${header.a b}", "`a b` is not the name of a header field"),
            ("$host.x", "neither a call nor something of the request"),
        ] {
            match told(text) {
                Ok(_) => assert_eq!(why, "", "{text}"),
                Err(said) => assert!(said.contains(why) && !why.is_empty(), "{text}: {said}"),
            }
        }
        let nobody = Terms { names: &[], offers: &[], has_auth: false };
        assert!(read("$jwt.sub", &nobody).unwrap_err().contains("has no `auth`"));
    }
}
