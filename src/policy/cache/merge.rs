//! The head of an answer as it is kept: without what belongs to one exchange only, and renewed by a 304.

use http::{HeaderMap, HeaderName, header};

/// What describes the kept body, which a 304 cannot change (RFC 9111 section 3.2).
const OF_THE_BODY: [&str; 5] = ["content-encoding", "content-length", "content-md5", "content-range", "etag"];

/// What belongs to the exchange in which an answer came.
const OF_THE_EXCHANGE: [&str; 5] = ["age", "x-request-id", "transfer-encoding", "trailer", "set-cookie"];

/// Takes out what no other client must get. Fields that belong to a connection were taken out before.
pub fn clean(head: &mut HeaderMap) {
    for name in OF_THE_EXCHANGE {
        head.remove(name);
    }
}

/// What a 304 says takes the place of what is kept; `news` was cleaned.
pub fn renew(kept: &mut HeaderMap, news: &HeaderMap) {
    let may = |name: &&HeaderName| !OF_THE_BODY.contains(&name.as_str()) && **name != header::VARY;
    for name in news.keys().filter(may) {
        let mut lines = news.get_all(name).iter();
        if let Some(first) = lines.next() {
            kept.insert(name.clone(), first.clone());
        }
        for line in lines {
            kept.append(name.clone(), line.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut head = HeaderMap::new();
        for (name, value) in lines {
            head.append(*name, value.parse().unwrap());
        }
        head
    }

    #[test]
    fn a_304_renews_all_but_what_describes_the_body() {
        let mut kept = head(&[("etag", "\"a\""), ("x", "1"), ("x", "2"), ("content-length", "5"), ("y", "1")]);
        renew(&mut kept, &head(&[("x", "3"), ("content-length", "0"), ("etag", "\"b\""), ("z", "1"), ("z", "2")]));
        let lines = |name| kept.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!((lines("x"), lines("y"), lines("z")), (vec!["3"], vec!["1"], vec!["1", "2"]));
        assert_eq!((lines("content-length"), lines("etag")), (vec!["5"], vec!["\"a\""]));
    }

    #[test]
    fn nothing_of_one_exchange_is_kept() {
        let mut kept = head(&[("age", "5"), ("set-cookie", "a=b"), ("x-request-id", "x"), ("x", "1")]);
        clean(&mut kept);
        assert_eq!(kept, head(&[("x", "1")]));
    }
}
