//! WebSockets as tunnels: frames both ways, silence, sizes, rights that end, goodbyes, and configurations that come and go.

use std::collections::VecDeque;
use std::io::Read;
use std::time::{Duration, Instant};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::harness::handshake::{SWITCH, upgrade};
use crate::harness::origin::Talk;
use crate::harness::tls::Authority;
use crate::harness::{Connection, Gateway, Origin, Request, Setup, eventually};

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A frame of a client (masked) or of a target.
fn frame(first: u8, body: &[u8], masked: bool) -> Vec<u8> {
    let key = if masked { [1, 2, 3, 4] } else { [0; 4] };
    let bit = if masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match u16::try_from(body.len()) {
        Ok(short @ 0..126) => bytes.push(bit | u8::try_from(short).unwrap()),
        Ok(long) => {
            bytes.push(bit | 0x7e);
            bytes.extend(long.to_be_bytes());
        }
        Err(_) => {
            bytes.push(bit | 0x7f);
            bytes.extend((body.len() as u64).to_be_bytes());
        }
    }
    if masked {
        bytes.extend(key);
    }
    bytes.extend(body.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

fn close(code: u16, masked: bool) -> Vec<u8> {
    frame(CLOSE, &code.to_be_bytes(), masked)
}

/// The next frame, unmasked.
fn read(mut exactly: impl FnMut(usize) -> Option<Vec<u8>>) -> Option<(u8, Vec<u8>)> {
    let head = exactly(2)?;
    let length = match head[1] & 0x7f {
        126 => u16::from_be_bytes(exactly(2)?.try_into().unwrap()).into(),
        127 => u64::from_be_bytes(exactly(8)?.try_into().unwrap()),
        short => short.into(),
    };
    let key = if head[1] & 0x80 == 0 { vec![0; 4] } else { exactly(4)? };
    let body = exactly(usize::try_from(length).unwrap())?;
    Some((head[0], body.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect()))
}

/// What a target hears and says.
fn hears(talk: &mut Talk) -> Option<(u8, Vec<u8>)> {
    read(|size| {
        let mut bytes = vec![0; size];
        talk.stream.read_exact(&mut bytes).ok().map(|()| bytes)
    })
}

/// Gives messages back, answers pings and goodbyes.
fn converses(talk: &mut Talk) {
    talk.send(SWITCH);
    while let Some((first, body)) = hears(talk) {
        match first {
            CLOSE => {
                talk.send(frame(CLOSE, &body, false));
                break;
            }
            PING => drop(talk.send(frame(PONG, &body, false))),
            _ => drop(talk.send(frame(first, &body, false))),
        }
    }
    talk.close();
}

pub fn conversing() -> Origin {
    Origin::new(|_, talk| converses(talk))
}

/// What a target heard, told to the test.
type Heard = std::sync::Arc<std::sync::Mutex<VecDeque<(u8, Vec<u8>)>>>;

fn listening() -> (Origin, Heard) {
    let heard = Heard::default();
    let mine = heard.clone();
    let origin = Origin::new(move |_, talk| {
        talk.send(SWITCH);
        while let Some(frame) = hears(talk) {
            mine.lock().unwrap().push_back(frame);
        }
        talk.close();
    });
    (origin, heard)
}

/// A client of a WebSocket.
pub struct Socket(Connection);

impl Socket {
    pub fn open(gateway: &Gateway) -> Self {
        Self::by(gateway, &upgrade())
    }
    fn by(gateway: &Gateway, request: &Request) -> Self {
        let mut connection = gateway.connect();
        assert_eq!(connection.ask(request).status, 101);
        Self(connection)
    }
    fn says(&mut self, first: u8, body: &[u8]) -> &mut Self {
        self.0.send(frame(first, body, true));
        self
    }
    fn hears(&mut self) -> (u8, Vec<u8>) {
        read(|size| Some(self.0.exactly(size))).unwrap()
    }
    /// The code of the goodbye that comes next.
    pub fn is_closed(&mut self) -> u16 {
        let (first, body) = self.hears();
        assert_eq!(first, CLOSE, "{body:?}");
        u16::from_be_bytes(body.try_into().unwrap())
    }
    pub fn converses(&mut self, word: &[u8]) {
        assert_eq!(self.says(TEXT, word).hears(), (TEXT, word.to_vec()));
    }
}

fn kept(origin: &Origin, settings: &str) -> Gateway {
    Gateway::before(origin, &format!("live: {{ match: /*, websocket: {settings}, to: app }}"))
}

fn line(gateway: &Gateway) -> Value {
    gateway.access_line(|line| line["http.response.status_code"] == 101)
}

#[test]
fn of_many_that_a_target_agrees_to_at_once_none_is_lost() {
    let origin = conversing();
    let gateway = Gateway::passing(&origin);
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(300);
    for round in 0..rounds {
        let word = round.to_string();
        Socket::open(&gateway).converses(word.as_bytes());
    }
    assert_eq!(origin.seen().len(), rounds);
}

#[test]
fn what_comes_right_behind_the_101_arrives() {
    let origin = Origin::new(|_, talk| talk.send([SWITCH.as_bytes(), &frame(TEXT, b"early", false)].concat()).echo());
    let gateway = kept(&origin, "{ idle: 10s }");
    assert_eq!(Socket::open(&gateway).hears(), (TEXT, b"early".to_vec()));
}

#[test]
fn nothing_of_the_client_reaches_the_target_before_it_has_agreed() {
    let (agree, agreed) = std::sync::mpsc::channel();
    let agreed = std::sync::Mutex::new(agreed);
    let origin = Origin::new(move |_, talk| {
        talk.stream.set_nonblocking(true).unwrap();
        agreed.lock().unwrap().recv().unwrap();
        let early = talk.stream.read(&mut [0; 64]);
        talk.stream.set_nonblocking(false).unwrap();
        if early.is_err() {
            converses(talk);
        }
    });
    let gateway = Gateway::passing(&origin);
    let mut connection = gateway.connect();
    connection.send([upgrade().bytes(), frame(TEXT, b"hasty", true)].concat());
    origin.last();
    agree.send(()).unwrap();
    assert_eq!(connection.response().status, 101, "the target has heard nothing before");
    assert_eq!(Socket(connection).hears(), (TEXT, b"hasty".to_vec()));
}

#[test]
fn a_handshake_that_is_none_goes_no_further() {
    let origin = conversing();
    let gateway = Gateway::passing(&origin);
    let without = |name: &str| {
        let mut request = upgrade();
        request.fields.retain(|(field, _)| field != name);
        request
    };
    let old = gateway.ask(without("Sec-WebSocket-Version").with("Sec-WebSocket-Version", 8));
    assert_eq!(old.verdict(), (426, "request.upgrade".into()));
    assert_eq!((old.field("sec-websocket-version"), old.field("upgrade")), (Some("13"), Some("websocket")));
    assert_eq!(gateway.ask(without("Sec-WebSocket-Version")).status, 426);
    let malformed = (400, "request.malformed".to_owned());
    assert_eq!(gateway.ask(without("Sec-WebSocket-Key")).verdict(), malformed);
    assert_eq!(gateway.ask(without("Sec-WebSocket-Key").with("Sec-WebSocket-Key", "short")).verdict(), malformed);
    assert_eq!(gateway.ask(Request { method: "POST".into(), ..upgrade() }).verdict(), malformed);
    assert_eq!(gateway.ask(Request { body: b"body".to_vec(), ..upgrade() }).verdict(), malformed);
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
}

#[test]
fn a_target_that_agrees_to_something_else_is_502() {
    let wrong = [
        SWITCH.replace("s3pP", "S3pP"),
        SWITCH.replace("Upgrade: websocket", "Upgrade: chat"),
        SWITCH.replace("Connection: Upgrade\r\n", ""),
        SWITCH.replace("Sec-WebSocket-Accept", "X-Accept"),
    ];
    for answer in wrong {
        let origin = Origin::new(move |_, talk| talk.send(&answer).echo());
        assert_eq!(Gateway::passing(&origin).ask(upgrade()).verdict(), (502, "upstream.upgrade".into()));
    }
}

#[test]
fn a_target_that_cannot_be_reached_is_left_for_another() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let origin = conversing();
    let gateway = Gateway::start(format!(
        "pools: {{ app: [\"{nobody}\", \"{origin}\"] }}\nroutes:\n  all: {{ match: '/*', to: app }}\n"
    ));
    for _ in 0..6 {
        Socket::open(&gateway).converses(b"here");
    }
    let seen = origin.seen();
    assert!(seen.iter().any(|seen| seen.field("x-yumen-attempt") == Some("2")), "{seen:?}");
    let alone =
        Gateway::start(format!("pools: {{ app: [\"{nobody}\"] }}\nroutes:\n  all: {{ match: '/*', to: app }}\n"));
    assert_eq!(alone.ask(upgrade()).verdict(), (502, "upstream.refused".into()));
}

#[test]
fn a_target_that_says_nothing_is_waited_for_as_long_as_for_others() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = Gateway::start(format!(
        "pools: {{ app: {{ targets: [\"{}\"], timeout: {{ first_byte: 200ms }} }} }}\nroutes:\n  all: {{ match: '/*', to: app }}\n",
        silent.local_addr().unwrap()
    ));
    assert_eq!(gateway.ask(upgrade()).verdict(), (504, "upstream.timeout.first_byte".into()));
}

#[test]
fn tunnels_go_through_tls_on_both_sides_where_the_target_proves_itself() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let origin = conversing();
    let behind = Setup::new().pair("app", &ours.issue(&["app.internal"])).start(format!(
        "listeners: {{ edge: {{ bind: '127.0.0.1:0', tls: {{ certs: [{{ cert: $DIR/app.pem, key: $DIR/app.key }}] }} }} }}\n{}",
        Gateway::document(&origin, "all: { match: /*, to: app }")
    ));
    let before = |authority: &Authority| {
        Setup::new().file("ca.pem", &authority.pem).start(format!(
            "pools: {{ app: {{ targets: ['{}'], tls: {{ sni: app.internal, ca: $DIR/ca.pem }} }} }}\nroutes:\n  all: {{ match: 'app.internal/*', host: pass, to: app }}\n",
            behind.edge()
        ))
    };
    let gateway = before(&ours);
    let mut socket = Socket::by(&gateway, &upgrade().host("app.internal"));
    socket.converses(b"secret");
    socket.converses(&[b'x'; 70_000]);
    let stranger = before(&theirs).ask(upgrade().host("app.internal"));
    assert_eq!(stranger.verdict(), (502, "upstream.tls".into()));
}

#[test]
fn a_line_and_figures_tell_of_a_tunnel() {
    let origin = conversing();
    let gateway = kept(&origin, "{ idle: 10s }");
    let mut socket = Socket::open(&gateway);
    socket.converses(b"one");
    socket.converses(b"two");
    let open = |gateway: &Gateway| gateway.metrics().sum("yumen_websockets", &[("route", "live")]);
    assert!((open(&gateway) - 1.0).abs() < 0.1);
    socket.0.send(close(4711, true));
    assert_eq!(socket.is_closed(), 4711);
    assert!(socket.0.ends());
    let line = line(&gateway);
    assert_eq!((&line["closed_by"], &line["close_code"]), (&json!("client"), &json!(4711)));
    assert_eq!((&line["messages_in"], &line["messages_out"], &line["tries"]), (&json!(2), &json!(2), &json!(1)));
    assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&json!(26), &json!(14)));
    assert_eq!((&line["pool"], &line["route"]), (&json!("app"), &json!("live")));
    let metrics = gateway.metrics();
    let closes = [("route", "live"), ("code", "4xxx"), ("by", "client")];
    assert!((metrics.sum("yumen_websocket_closes_total", &closes) - 1.0).abs() < 0.1);
    assert!((metrics.sum("yumen_websocket_messages_total", &[("from", "target")]) - 2.0).abs() < 0.1);
    assert!(metrics.sum("yumen_websocket_bytes_total", &[("from", "client")]) > 20.0);
    assert!(open(&gateway).abs() < 0.1);
}

#[test]
fn silence_of_both_sides_ends_with_a_goodbye_to_both() {
    let (origin, heard) = listening();
    let gateway = kept(&origin, "{ idle: 400ms }");
    let (mut socket, start) = (Socket::open(&gateway), Instant::now());
    socket.says(TEXT, b"last word");
    assert_eq!(socket.is_closed(), 1001);
    assert!(start.elapsed() >= Duration::from_millis(400));
    let goodbye = (CLOSE, 1001_u16.to_be_bytes().to_vec());
    eventually("the goodbye at the target", || heard.lock().unwrap().contains(&goodbye).then_some(()));
    socket.0.send(close(1001, true));
    drop(socket);
    let line = line(&gateway);
    assert_eq!((&line["closed_by"], &line["close_code"]), (&json!("gateway"), &json!(1001)));
}

#[test]
fn without_a_word_of_its_own_the_silence_of_the_pool_holds() {
    let origin = conversing();
    let gateway = Gateway::before(&origin, "all: { match: /*, timeout: { idle: 300ms }, to: app }");
    assert_eq!(Socket::open(&gateway).is_closed(), 1001);
}

#[test]
fn a_silent_client_is_pinged_and_its_answer_goes_no_further() {
    let (origin, heard) = listening();
    let gateway = kept(&origin, "{ ping: 200ms }");
    let mut socket = Socket::open(&gateway);
    for _ in 0..3 {
        let (first, word) = socket.hears();
        assert_eq!(first, PING);
        socket.says(PONG, &word);
    }
    socket.says(PONG, b"unasked").says(TEXT, b"hello");
    eventually("a word", || heard.lock().unwrap().iter().any(|(first, _)| *first == TEXT).then_some(()));
    assert_eq!(*heard.lock().unwrap(), [(PONG, b"unasked".to_vec()), (TEXT, b"hello".to_vec())]);
    let (first, _) = socket.hears();
    assert_eq!(first, PING, "and once more when it is silent again");
    assert_eq!(socket.is_closed(), 1001, "this one was not answered");
    eventually("a goodbye", || heard.lock().unwrap().iter().any(|(first, _)| *first == CLOSE).then_some(()));
}

#[test]
fn a_message_that_is_too_large_goes_no_further_however_it_is_cut() {
    let (origin, heard) = listening();
    let gateway = kept(&origin, "{ max_message: 1KiB }");
    let mut whole = Socket::open(&gateway);
    whole.says(TEXT, &[b'x'; 1024]).says(TEXT, &[b'y'; 1025]);
    assert_eq!(whole.is_closed(), 1009);
    assert_eq!(line(&gateway)["reason"], "body.too_large");
    let mut parts = Socket::open(&gateway);
    parts.says(0x01, &[b'x'; 1000]).says(0x80, &[b'y'; 25]);
    assert_eq!(parts.is_closed(), 1009);
    let heard = heard.lock().unwrap();
    assert!(heard.iter().all(|(_, body)| body.len() <= 1024 && !body.contains(&b'y')));
}

#[test]
fn who_breaks_the_protocol_is_told_so() {
    let (origin, _) = listening();
    let gateway = kept(&origin, "{ idle: 10s }");
    let story: [(&str, Vec<u8>); 5] = [
        ("not masked", frame(TEXT, b"x", false)),
        ("reserved bit", frame(0xc1, b"x", true)),
        ("unknown kind", frame(0x83, b"x", true)),
        ("ping in parts", frame(0x09, b"x", true)),
        ("ping that is too long", frame(PING, &[b'x'; 126], true)),
    ];
    for (what, bytes) in story {
        let mut socket = Socket::open(&gateway);
        socket.0.send(bytes);
        assert_eq!(socket.is_closed(), 1002, "{what}");
    }
    assert_eq!(line(&gateway)["reason"], "request.malformed");
    let target = Origin::new(|_, talk| talk.send(SWITCH).send(frame(TEXT, b"masked", true)).echo());
    let gateway = kept(&target, "{ idle: 10s }");
    assert_eq!(Socket::open(&gateway).is_closed(), 1002);
    assert_eq!(line(&gateway)["reason"], "upstream.protocol");
}

#[test]
fn a_target_that_is_gone_without_a_goodbye_is_told_of() {
    let origin = Origin::new(|_, talk| talk.send(SWITCH).send(frame(TEXT, b"bye", false)).close());
    let gateway = Gateway::passing(&origin);
    let mut socket = Socket::open(&gateway);
    assert_eq!(socket.hears(), (TEXT, b"bye".to_vec()));
    assert_eq!(socket.is_closed(), 1011);
    socket.0.send(close(1011, true));
    assert!(socket.0.ends());
    let line = line(&gateway);
    assert_eq!((&line["closed_by"], &line["reason"]), (&json!("target"), &json!("upstream.reset")));
}

#[test]
fn a_consumer_has_so_many_and_room_for_another_when_one_ends() {
    let origin = conversing();
    let gateway = kept(&origin, "{ per_consumer: 2 }");
    let (first, mut second) = (Socket::open(&gateway), Socket::open(&gateway));
    assert_eq!(gateway.ask(upgrade()).verdict(), (429, "limit.in_flight".into()));
    second.converses(b"not disturbed");
    drop(first);
    let again = eventually("room for another", || {
        let mut connection = gateway.connect();
        (connection.ask(&upgrade()).status == 101).then_some(connection)
    });
    Socket(again).converses(b"in");
    assert_eq!(origin.seen().len(), 3, "who was refused never reached the target");
}

#[test]
fn a_shadow_counts_and_refuses_no_consumer() {
    let origin = conversing();
    let gateway = kept(&origin, "{ per_consumer: 1, mode: shadow }");
    let _first = Socket::open(&gateway);
    Socket::open(&gateway).converses(b"one too many");
    let would = [("reason", "limit.in_flight")];
    eventually("counted", || (gateway.metrics().sum("yumen_shadow_refusals_total", &would) > 0.5).then_some(()));
}

#[test]
fn a_tunnel_ends_with_the_token_that_opened_it_unless_the_document_says_otherwise() {
    const SECRET: &str = "a secret that is long enough for HS256";
    let origin = conversing();
    let document = Gateway::document(
        &origin,
        "live: { match: /live, auth: staff, to: app }\nstays: { match: /stays, auth: staff, websocket: { recheck: off }, to: app }",
    );
    let auth = "auth: { staff: { jwt: { secret: 'file:$DIR/secret', leeway: 0s } } }\n";
    let gateway = Setup::new().file("secret", SECRET).start(format!("{auth}{document}"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({ "sub": "u1", "exp": now + 3 });
    let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
    let open = |path: &str| {
        let request = upgrade().with("Authorization", format!("Bearer {token}"));
        Socket::by(&gateway, &Request { target: path.into(), ..request })
    };
    let (mut live, mut stays) = (open("/live"), open("/stays"));
    live.converses(b"while it holds");
    assert_eq!(live.is_closed(), 1008);
    let told = line(&gateway);
    assert_eq!(
        (&told["reason"], &told["close_code"], &told["consumer"]),
        (&json!("auth.expired"), &json!(1008), &json!("u1"))
    );
    stays.converses(b"as long as it likes");
}

#[test]
fn compression_is_agreed_on_unless_it_is_off() {
    let offers = || upgrade().with("Sec-WebSocket-Extensions", "permessage-deflate");
    let agreeing = SWITCH.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
    let origin = Origin::new(move |seen, talk| {
        let agreed = seen.field("sec-websocket-extensions").is_some();
        talk.send(if agreed { &*agreeing } else { SWITCH })
            .send(frame(if agreed { 0xc1 } else { TEXT }, b"x", false))
            .echo();
    });
    let passing = kept(&origin, "{ idle: 10s }");
    assert_eq!(Socket::by(&passing, &offers()).hears(), (0xc1, b"x".to_vec()));
    let off = kept(&origin, "{ compression: off }");
    assert_eq!(Socket::by(&off, &offers()).hears(), (TEXT, b"x".to_vec()));
    assert_eq!(origin.last().field("sec-websocket-extensions"), None);
}

#[test]
fn a_gateway_that_leaves_says_goodbye_to_all_one_after_the_other() {
    let (origin, heard) = listening();
    let mut gateway = Gateway::start(format!(
        "runtime: {{ drain: {{ requests: 6s }} }}\n{}",
        Gateway::document(&origin, "all: { match: /*, to: app }")
    ));
    let mut sockets: Vec<_> = (0..8).map(|_| Socket::open(&gateway)).collect();
    let start = Instant::now();
    gateway.signal("TERM");
    for socket in &mut sockets {
        assert_eq!(socket.is_closed(), 1001);
        socket.0.send(close(1001, true));
    }
    assert!(start.elapsed() < Duration::from_secs(6));
    let goodbyes = || heard.lock().unwrap().iter().filter(|(first, _)| *first == CLOSE).count();
    eventually("a goodbye at each target", || (goodbyes() == 8).then_some(()));
    drop(sockets);
    assert_eq!(gateway.ended(), 0);
}

#[test]
fn a_listener_that_goes_with_a_reload_takes_its_tunnels_along_and_no_others() {
    let origin = conversing();
    let document = |listeners: &str| {
        format!(
            "runtime: {{ drain: {{ requests: 1s }} }}\nlisteners: {{ {listeners} }}\n{}",
            Gateway::document(&origin, "all: { match: /*, to: app }")
        )
    };
    let two = document("edge: { bind: '127.0.0.1:0' }, other: { bind: '127.0.0.1:0' }");
    let mut gateway = Gateway::start(two);
    let mut stays = Socket::open(&gateway);
    let mut goes = Socket({
        let mut connection = Connection::to(&gateway.listener("other"));
        assert_eq!(connection.ask(&upgrade()).status, 101);
        connection
    });
    goes.converses(b"here");
    gateway.reload(document("edge: { bind: '127.0.0.1:0' }"));
    assert_eq!(goes.is_closed(), 1001);
    stays.converses(b"still here");
}

#[test]
fn tunnels_live_through_reloads_and_hold_nothing_of_what_has_gone() {
    let origin = conversing();
    let (tunnels, reloads) = std::env::var("RELOADS").map_or((40, 12), |_| (2000, 200));
    // Something large that a tunnel has no use for.
    let networks: String = (0..2000).map(|at| format!("10.{}.{}.0/24, ", at / 250, at % 250)).collect();
    let document = |round: usize| {
        let route = format!(
            "live: {{ match: /*, ip: {{ deny: [{networks}] }}, websocket: {{ idle: 10m }}, request: {{ set: {{ x-round: '{round}' }} }}, to: app }}"
        );
        Gateway::document(&origin, &route)
    };
    let mut gateway = Gateway::start(format!(
        "listeners: {{ edge: {{ bind: '127.0.0.1:0', limits: {{ per_address: 10000 }} }} }}\n{}",
        document(0)
    ));
    let mut sockets: Vec<_> = (0..tunnels).map(|_| Socket::open(&gateway)).collect();
    let mut early = 0;
    for round in 1..=reloads {
        gateway.reload(format!(
            "listeners: {{ edge: {{ bind: '127.0.0.1:0', limits: {{ per_address: 10000 }} }} }}\n{}",
            document(round)
        ));
        // One more of each generation: a tunnel must not keep its generation in memory.
        sockets.push(Socket::open(&gateway));
        if round == reloads / 3 {
            early = gateway.memory();
        }
    }
    let late = gateway.memory();
    println!("{tunnels} tunnels, {reloads} reloads: {early} KiB after a third of them, {late} KiB at the end");
    assert!(late < early + 8192 + early / 5, "{early} KiB, then {late} KiB");
    for socket in &mut sockets {
        socket.converses(b"alive");
    }
    assert_eq!(origin.last().field("x-round"), Some(reloads.to_string().as_str()));
}
