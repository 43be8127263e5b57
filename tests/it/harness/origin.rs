//! An HTTP/1.1 server that says what it is told, byte for byte, and remembers what it was asked.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::wire::{Fields, Reader};
use super::{PATIENCE, eventually};

/// A request as the origin saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// The head, byte for byte.
    pub head: String,
    /// Which of the origin's connections it came over, from 0.
    pub connection: usize,
}

impl Seen {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }
}

/// The origin's side of one connection while it answers.
pub struct Talk {
    pub stream: TcpStream,
    close: bool,
}

impl Talk {
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        if self.stream.write_all(bytes.as_ref()).is_err() {
            self.close = true;
        }
        self
    }
    /// Whole and well formed.
    pub fn answer(&mut self, status: u16, fields: &str, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let head = format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n{fields}\r\n", body.len());
        self.send([head.as_bytes(), body].concat());
    }
    pub fn close(&mut self) {
        self.close = true;
    }
    /// Gives back every byte until the other side ends.
    pub fn echo(&mut self) {
        let mut room = [0; 65536];
        while let Ok(got) = self.stream.read(&mut room)
            && got > 0
            && self.stream.write_all(&room[..got]).is_ok()
        {}
        self.close = true;
    }
}

type Script = dyn Fn(&Seen, &mut Talk) + Send + Sync;

struct Shared {
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    stopped: AtomicBool,
}

pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Origin {
    /// Answers every request by this deed.
    pub fn new(script: impl Fn(&Seen, &mut Talk) + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }
    /// The same on a listener that was bound before, e.g. to come back on an old address.
    pub fn on(listener: TcpListener, script: impl Fn(&Seen, &mut Talk) + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let (script, mine): (Arc<Script>, _) = (Arc::new(script), shared.clone());
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if mine.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let number = mine.connections.fetch_add(1, Ordering::SeqCst);
                let (script, mine) = (script.clone(), mine.clone());
                thread::spawn(move || serve(stream, number, &mine, &*script));
            }
        });
        Self { address, shared }
    }
    /// 200 with this text, to everything.
    pub fn answering(body: &str) -> Self {
        let body = body.to_owned();
        Self::new(move |_, talk| talk.answer(200, "Content-Type: text/plain\r\n", &body))
    }
    /// These bytes to everything, then the end.
    pub fn saying(bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref().to_vec();
        Self::new(move |_, talk| talk.send(&bytes).close())
    }
    pub fn address(&self) -> SocketAddr {
        self.address
    }
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }
    /// The paths and queries that were asked for, in order.
    pub fn targets(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.target).collect()
    }
    pub fn last(&self) -> Seen {
        eventually("a request at the origin", || self.seen().pop())
    }
    pub fn forget(&self) {
        self.shared.seen.lock().unwrap().clear();
    }
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect_timeout(&self.address, PATIENCE);
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

fn serve(stream: TcpStream, connection: usize, shared: &Shared, script: &Script) {
    let _ = stream.set_nodelay(true);
    let Ok(mut from) = stream.try_clone() else { return };
    let (mut talk, mut reader) = (Talk { stream, close: false }, Reader::new());
    while !talk.close && !shared.stopped.load(Ordering::SeqCst) {
        let Ok(Some((start, fields, raw))) = reader.head(&mut from) else { return };
        if fields.get("expect").is_some_and(|expect| expect.eq_ignore_ascii_case("100-continue")) {
            talk.send("HTTP/1.1 100 Continue\r\n\r\n");
        }
        let mut words = start.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let head = String::from_utf8_lossy(&raw).into_owned();
        let mut seen = Seen { method, target, fields, body: Vec::new(), trailers: Fields::default(), head, connection };
        match reader.body(&mut from, &seen.fields, false) {
            Ok((body, trailers)) => (seen.body, seen.trailers) = (body, trailers),
            Err(_) => return,
        }
        shared.seen.lock().unwrap().push(seen.clone());
        script(&seen, &mut talk);
    }
}
