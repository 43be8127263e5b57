//! Compressed answers: who gets which, what stays as it is, and that nothing waits.

use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;

use crate::harness::wire::Response;
use crate::harness::{Gateway, Origin, Request, Setup, h2, tools};

/// What the origin says, in many words.
fn words() -> String {
    (0..2000).map(|n| format!("{{\"item\":{n},\"name\":\"number {n}\"}}\n")).collect()
}

fn origin(fields: &'static str) -> Origin {
    Origin::new(move |_, talk| talk.answer(200, fields, words()))
}

fn read(coding: &str, body: &[u8]) -> String {
    let mut text = String::new();
    let done = match coding {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_string(&mut text),
        "br" => brotli::Decompressor::new(body, 4096).read_to_string(&mut text),
        "zstd" => zstd::stream::read::Decoder::new(body).unwrap().read_to_string(&mut text),
        other => panic!("{other} is no coding"),
    };
    done.unwrap_or_else(|e| panic!("{coding}: {e}"));
    text
}

fn plain(answer: &Response) -> String {
    match answer.field("content-encoding") {
        Some(coding) => read(coding, &answer.body),
        None => answer.text(),
    }
}

fn coding(answer: &Response) -> &str {
    answer.field("content-encoding").unwrap_or("-")
}

fn accepting(said: &str) -> Request {
    Request::get("/").with("Accept-Encoding", said)
}

const JSON: &str = "Content-Type: application/json\r\nETag: \"a\"\r\nAccept-Ranges: bytes\r\n";

#[test]
fn a_client_gets_the_coding_that_it_likes_and_the_document_prefers() {
    let origin = origin(JSON);
    let gateway = Gateway::before(&origin, "all: { match: /*, to: app, compress: [br, zstd, gzip] }");
    for (said, wanted) in [("gzip, deflate, br, zstd", "br"), ("gzip;q=1, br;q=0.5", "gzip"), ("zstd", "zstd")] {
        let answer = gateway.ask(accepting(said));
        assert_eq!((coding(&answer), plain(&answer)), (wanted, words()));
        assert_eq!((answer.field("content-length"), answer.field("accept-ranges")), (None, None));
        assert_eq!((answer.field("etag"), answer.field("vary")), (Some("W/\"a\""), Some("accept-encoding")));
        assert!(answer.body.len() * 4 < words().len(), "{wanted} {}", answer.body.len());
    }
    for said in ["", "identity", "deflate", "br;q=0, *;q=0"] {
        let answer = gateway.ask(accepting(said));
        assert_eq!((coding(&answer), answer.text()), ("-", words()), "{said}");
        assert_eq!((answer.field("vary"), answer.field("etag")), (Some("accept-encoding"), Some("\"a\"")));
    }
    let head = gateway.ask(Request::new("HEAD", "/").with("Accept-Encoding", "gzip"));
    assert_eq!((coding(&head), head.field("content-length")), ("gzip", None));
    // The line tells what was sent.
    gateway.access_line(|line| {
        line["bytes_out"].as_u64().is_some_and(|sent| (1..words().len() as u64 / 4).contains(&sent))
    });
    let counted =
        |side: &str| gateway.metrics().sum(&format!("yumen_compress_{side}_bytes_total"), &[("coding", "br")]);
    assert_eq!(counted("in").to_string(), words().len().to_string());
    assert!(counted("out") > 0.0 && counted("out") * 4.0 < counted("in"));
}

#[test]
fn curl_reads_what_it_asks_for() {
    let origin = origin(JSON);
    let gateway = Gateway::before(&origin, "all: { match: /*, to: app, compress: on }");
    let url = format!("http://{}/", gateway.edge());
    for version in ["--http1.0", "--http1.1", "--http2-prior-knowledge"] {
        let said = tools::run("curl", &["-sS", "--compressed", version, "-w", "%{size_download}", &url]);
        let size = said.out.strip_prefix(&words()).unwrap_or_else(|| panic!("{version}: {} {}", said.code, said.err));
        assert!(size.parse::<usize>().unwrap() * 4 < words().len(), "{version}: {size}");
    }
}

#[test]
fn a_length_beyond_all_measure_harms_nobody() {
    let told = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9999999999999999999\r\n\r\nbegun";
    let origin = Origin::saying(told);
    let gateway = Gateway::before(&origin, "all: { match: /*, to: app, compress: on }");
    for said in ["zstd", "br", "gzip"] {
        let head = gateway.connect().send(accepting(said).bytes()).head();
        assert_eq!((head.status, coding(&head)), (200, said));
    }
}

#[test]
fn an_old_client_gets_it_to_the_end_of_its_connection() {
    let origin = origin(JSON);
    let gateway = Gateway::before(&origin, "all: { match: /*, to: app, compress: on }");
    let (answers, ended) = gateway.raw("GET / HTTP/1.0\r\nHost: a.example\r\nAccept-Encoding: gzip\r\n\r\n");
    assert!(ended && answers.len() == 1);
    assert_eq!((answers[0].field("transfer-encoding"), plain(&answers[0])), (None, words()));
}

#[test]
fn what_is_said_of_size_type_and_level_holds() {
    let origin = Origin::new(|seen, talk| {
        let (kind, size) = seen.target.trim_start_matches('/').split_once('/').unwrap();
        let kind = format!("Content-Type: {}\r\n", kind.replace('.', "/"));
        let text = words().repeat(8);
        talk.answer(200, &kind, &text[..size.parse().unwrap()]);
    });
    let routes = "few: { match: few.example/*, to: app, compress: { with: [gzip], min: 10KiB, types: [text/plain] } }\n\
                  fast: { match: fast.example/*, to: app, compress: { with: [gzip], level: fast } }\n\
                  small: { match: small.example/*, to: app, compress: { with: [gzip], level: small } }";
    let gateway = Gateway::before(&origin, routes);
    let ask = |host: &str, target: &str| gateway.ask(Request::get(target).host(host).with("Accept-Encoding", "gzip"));
    let table = [
        ("few.example", "/text.plain/10240", "gzip"),
        ("few.example", "/text.plain/10239", "-"),
        ("few.example", "/application.json/20000", "-"),
        ("fast.example", "/application.json/1024", "gzip"),
        ("fast.example", "/application.json/1023", "-"),
        ("fast.example", "/image.png/20000", "-"),
    ];
    for (host, target, wanted) in table {
        assert_eq!(coding(&ask(host, target)), wanted, "{host} {target}");
    }
    let size = |host| ask(host, "/text.plain/200000").body.len();
    assert!(size("small.example") < size("fast.example"));
}

#[test]
fn what_may_bear_a_secret_stays_as_it_is_unless_the_document_says_otherwise() {
    let origin = origin("Content-Type: application/json\r\nSet-Cookie: a=b\r\n");
    let quiet = self::origin(JSON);
    let text = format!(
        "pools: {{ app: ['{origin}'], quiet: ['{quiet}'] }}\nroutes:\n  \
         own: {{ match: own.example/*, to: app, compress: on }}\n  \
         quiet: {{ match: quiet.example/*, to: quiet, compress: on }}\n  \
         all: {{ match: /*, to: app, compress: {{ secrets: compress }} }}\n"
    );
    let gateway = Gateway::start(text);
    let ask = |host: &str, more: &[(&str, &str)]| {
        let request = accepting("gzip").host(host);
        let request = more.iter().fold(request, |request, (name, value)| request.with(name, value));
        coding(&gateway.ask(request)).to_owned()
    };
    assert_eq!((ask("own.example", &[]), ask("any.example", &[])), ("-".to_owned(), "gzip".to_owned()));
    assert_eq!(ask("quiet.example", &[]), "gzip");
    assert_eq!(ask("quiet.example", &[("Cookie", "s=1")]), "-");
    assert_eq!(ask("quiet.example", &[("Cookie", "s=1"), ("Sec-Fetch-Site", "same-origin")]), "gzip");
    assert_eq!(ask("quiet.example", &[("Authorization", "Bearer x")]), "gzip");
}

/// Sends a head and an event, and another one when it is told to.
fn events() -> (Origin, Sender<()>) {
    let (more, wanted): (_, Receiver<()>) = channel();
    let wanted = Mutex::new(wanted);
    let origin = Origin::new(move |_, talk| {
        talk.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        talk.send("9\r\ndata: 1\n\n\r\n");
        if wanted.lock().unwrap().recv_timeout(Duration::from_secs(10)).is_ok() {
            talk.send("9\r\ndata: 2\n\n\r\n0\r\n\r\n");
        }
        talk.close();
    });
    (origin, more)
}

#[test]
fn an_event_reaches_the_client_before_the_next_one_is_made() {
    for said in ["gzip", "br", "zstd"] {
        let (origin, more) = events();
        let gateway = Gateway::before(&origin, "all: { match: /*, to: app, compress: on }");
        let mut stream = gateway.connect();
        stream.send(accepting(said).with("Accept", "text/event-stream").bytes());
        assert_eq!(stream.head().field("content-encoding"), Some(said));
        let mut chunk = || {
            let size = stream.until("\r\n");
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            let bytes = stream.exactly(size + 2);
            bytes[..size].to_vec()
        };
        let (mut gzip, mut br, mut zstd) = (
            flate2::write::GzDecoder::new(Vec::new()),
            brotli::DecompressorWriter::new(Vec::new(), 64),
            zstd::stream::write::Decoder::new(Vec::new()).unwrap(),
        );
        let mut so_far = |bytes: &[u8]| {
            let (writer, read): (&mut dyn Write, _) = match said {
                "gzip" => (&mut gzip, 0),
                "br" => (&mut br, 1),
                _ => (&mut zstd, 2),
            };
            writer.write_all(bytes).and_then(|()| writer.flush()).unwrap();
            let read = [gzip.get_ref(), br.get_ref(), zstd.get_ref()][read].clone();
            String::from_utf8(read).unwrap()
        };
        assert_eq!(so_far(&chunk()), "data: 1\n\n", "{said}");
        more.send(()).unwrap();
        assert_eq!(so_far(&chunk()), "data: 1\n\ndata: 2\n\n", "{said}");
    }
}

#[test]
fn http_2_on_both_sides_and_what_ends_with_trailers_is_whole() {
    let origin = h2::Origin::scripted(|_, mut respond| {
        let head = http::Response::builder().header("content-type", "text/plain").body(()).unwrap();
        let mut body = respond.send_response(head, false).unwrap();
        body.send_data(Bytes::from(words()), false).unwrap();
        body.send_trailers([("x-sum".parse().unwrap(), "1".parse().unwrap())].into_iter().collect()).unwrap();
    });
    let gateway = Gateway::start(format!(
        "pools: {{ app: {{ targets: ['{origin}'], protocol: h2c }} }}\nroutes: {{ all: {{ match: /*, to: app, compress: on }} }}\n"
    ));
    let request = http::Request::get("http://a.example/").header("accept-encoding", "br").body(()).unwrap();
    let answer = h2::ask(&gateway.edge(), request, b"").unwrap();
    assert_eq!((answer.status, answer.header("content-encoding")), (200, Some("br")));
    assert_eq!(read("br", &answer.body), words());
    let old = gateway.ask(accepting("gzip"));
    assert_eq!((coding(&old), plain(&old)), ("gzip", words()));
}

#[test]
fn what_a_route_says_itself_is_compressed_too() {
    let body = "the same again and again ".repeat(100);
    let text = format!(
        "defaults: {{ route: {{ compress: on }} }}\nroutes:\n  \
         long: {{ match: /long, respond: {{ body: '{body}' }} }}\n  \
         short: {{ match: /short, respond: {{ body: hello }} }}\n  \
         plain: {{ match: /plain, respond: {{ body: '{body}' }}, compress: off }}\n"
    );
    let gateway = Gateway::start(text);
    let ask = |method: &str, target: &str| gateway.ask(Request::new(method, target).with("Accept-Encoding", "gzip"));
    let long = ask("GET", "/long");
    assert_eq!((coding(&long), plain(&long)), ("gzip", body.clone()));
    assert_eq!(long.field("content-length"), Some(long.body.len().to_string().as_str()));
    let head = ask("HEAD", "/long");
    assert_eq!((coding(&head), head.field("content-length")), ("gzip", long.field("content-length")));
    assert_eq!((coding(&ask("GET", "/short")), ask("GET", "/short").text()), ("-", "hello".to_owned()));
    let other = ask("GET", "/plain");
    assert_eq!((coding(&other), other.text(), other.field("vary")), ("-", body, None));
}

#[test]
fn parts_and_coded_answers_pass_as_they_are() {
    let origin = Origin::new(|seen, talk| match seen.target.as_str() {
        "/part" => talk.answer(206, "Content-Type: text/plain\r\nContent-Range: bytes 0-4999/*\r\n", vec![b'a'; 5000]),
        "/coded" => talk.answer(200, "Content-Type: text/plain\r\nContent-Encoding: br\r\n", vec![b'a'; 5000]),
        "/same" => drop(talk.send("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n")),
        "/never" => talk.answer(200, "Content-Type: text/plain\r\nCache-Control: no-transform\r\n", vec![b'a'; 5000]),
        _ => drop(talk.send("HTTP/1.1 204 No Content\r\n\r\n")),
    });
    let gateway = Gateway::before(&origin, "all: { match: /*, to: app, compress: on }");
    let ask = |target: &str| gateway.ask(Request::get(target).with("Accept-Encoding", "gzip"));
    for (target, status) in [("/part", 206), ("/never", 200)] {
        let answer = ask(target);
        assert_eq!((answer.status, coding(&answer), answer.body.len()), (status, "-", 5000), "{target}");
        assert_eq!(answer.field("content-length"), Some("5000"));
    }
    assert_eq!((coding(&ask("/coded")), ask("/coded").body.len()), ("br", 5000));
    let same = gateway.ask(Request::get("/same").with("Accept-Encoding", "gzip").with("If-None-Match", "W/\"a\""));
    assert_eq!((same.status, same.field("etag")), (304, Some("W/\"a\"")));
    assert_eq!((ask("/none").status, coding(&ask("/none"))), (204, "-"));
}

#[test]
fn a_hundred_mebibytes_pass_in_little_memory() {
    const MIB: usize = 1 << 20;
    let origin = Origin::new(|_, talk| {
        talk.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut piece = format!("{MIB:x}\r\n").into_bytes();
        piece.extend(words().into_bytes().iter().cycle().take(MIB));
        piece.extend(b"\r\n");
        for _ in 0..100 {
            talk.send(&piece);
        }
        talk.send("0\r\n\r\n");
    });
    let gateway = Gateway::before(&origin, "all: { match: /*, to: app, compress: on }");
    gateway.get("/");
    let before = gateway.memory();
    let answer = gateway.ask(accepting("zstd"));
    let most = gateway.memory();
    let mut size = 0;
    let mut from = zstd::stream::read::Decoder::new(&*answer.body).unwrap();
    let mut room = vec![0; MIB];
    while let Ok(got @ 1..) = from.read(&mut room) {
        size += got;
    }
    assert_eq!(size, 100 * MIB);
    assert!(most < before + 16 * 1024, "{before} KiB then {most}");
}

#[test]
fn explain_says_what_is_compressed() {
    let text = "version: 1\nlisteners: { edge: { bind: 80 } }\npools: { app: [10.0.0.1:80] }\n\
                routes:\n  all: { match: /*, to: app, compress: on }\n";
    let told = Setup::new().run(text, "explain", &["GET", "http://a.example/x"]).out;
    assert!(told.contains("\n  compress  ") && told.contains("  zstd, br, gzip\n"), "{told}");
}

#[test]
fn what_is_kept_is_compressed_for_each_client_as_it_likes() {
    let origin = origin(JSON);
    let gateway = Gateway::before(&origin, "all: { match: /*, to: app, cache: 60s, compress: [br, zstd, gzip] }");
    for (said, wanted) in [("br", "br"), ("gzip", "gzip"), ("identity", "-"), ("zstd", "zstd"), ("br", "br")] {
        let answer = gateway.ask(accepting(said));
        assert_eq!((coding(&answer), plain(&answer)), (wanted, words()));
        assert_eq!(answer.field("vary"), Some("accept-encoding"));
        assert_eq!(answer.field("etag"), Some(if wanted == "-" { "\"a\"" } else { "W/\"a\"" }));
    }
    assert!(gateway.ask(accepting("gzip")).field("cache-status").unwrap().starts_with("yumen;hit"));
    let same = gateway.ask(accepting("gzip").with("If-None-Match", "W/\"a\""));
    assert_eq!((same.status, same.body.len()), (304, 0));
    let part = gateway.ask(accepting("gzip").with("Range", "bytes=2-11"));
    assert_eq!((part.status, coding(&part), part.text().as_str()), (206, "-", &words()[2..12]));
    assert_eq!(origin.seen().len(), 1, "asked once for all of them");
}
