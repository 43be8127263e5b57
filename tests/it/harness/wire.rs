//! HTTP/1.1 as bytes: requests that may be wrong on purpose, answers read to their last byte.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::PATIENCE;

/// Header fields in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.0.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }
    fn says(&self, name: &str, word: &str) -> bool {
        self.all(name).iter().any(|value| value.to_ascii_lowercase().contains(word))
    }
}

/// A request to be sent; `Host` is added unless it is among the fields.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.into(), target: target.into(), fields: Vec::new(), body: Vec::new() }
    }
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }
    pub fn post(target: &str, body: impl AsRef<[u8]>) -> Self {
        Self { body: body.as_ref().to_vec(), ..Self::new("POST", target) }
    }
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.fields.push((name.into(), value.to_string()));
        self
    }
    pub fn host(self, host: &str) -> Self {
        self.with("Host", host)
    }
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let named = |name: &str| self.fields.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
        if !named("host") {
            head += "Host: test.example\r\n";
        }
        if !self.body.is_empty() && !named("content-length") && !named("transfer-encoding") {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        for (name, value) in &self.fields {
            head += &format!("{name}: {value}\r\n");
        }
        [head.as_bytes(), b"\r\n", &self.body].concat()
    }
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// The 1xx answers that came before.
    pub interim: Vec<u16>,
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }
    /// The reason code of a problem+json answer; empty for other answers.
    pub fn code(&self) -> String {
        if self.field("content-type") != Some("application/problem+json") {
            return String::new();
        }
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
    /// Status and reason code in one.
    pub fn verdict(&self) -> (u16, String) {
        (self.status, self.code())
    }
}

/// What carries bytes both ways.
pub trait Stream: Read + Write + Send {
    /// Says that nothing more will be sent.
    fn finish(&mut self);
    fn patience(&mut self, patience: Duration);
}

impl Stream for TcpStream {
    fn finish(&mut self) {
        let _ = self.shutdown(Shutdown::Write);
    }
    fn patience(&mut self, patience: Duration) {
        self.set_read_timeout(Some(patience)).unwrap();
        self.set_write_timeout(Some(patience)).unwrap();
    }
}

impl Stream for UnixStream {
    fn finish(&mut self) {
        let _ = self.shutdown(Shutdown::Write);
    }
    fn patience(&mut self, patience: Duration) {
        self.set_read_timeout(Some(patience)).unwrap();
        self.set_write_timeout(Some(patience)).unwrap();
    }
}

/// Reads messages from a stream, byte by byte exact.
pub struct Reader {
    buffer: Vec<u8>,
}

impl Reader {
    pub const fn new() -> Self {
        Self { buffer: Vec::new() }
    }
    fn more(&mut self, from: &mut dyn Read) -> io::Result<bool> {
        let mut room = [0; 65536];
        let got = from.read(&mut room)?;
        self.buffer.extend_from_slice(&room[..got]);
        Ok(got > 0)
    }
    fn until(&mut self, from: &mut dyn Read, mark: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            let found = self.buffer[searched..].windows(mark.len()).position(|window| window == mark);
            if let Some(at) = found {
                return Ok(Some(self.buffer.drain(..searched + at + mark.len()).collect()));
            }
            searched = self.buffer.len().saturating_sub(mark.len() - 1);
            if !self.more(from)? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }
    /// A head up to its empty line; none at a clean end.
    pub fn head(&mut self, from: &mut dyn Read) -> io::Result<Option<(String, Fields, Vec<u8>)>> {
        let Some(raw) = self.until(from, b"\r\n\r\n")? else { return Ok(None) };
        let text = String::from_utf8_lossy(&raw).into_owned();
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        Ok(Some((start, fields(lines), raw)))
    }
    /// The body that these fields announce, and its trailers.
    pub fn body(&mut self, from: &mut dyn Read, fields: &Fields, to_end: bool) -> io::Result<(Vec<u8>, Fields)> {
        if fields.says("transfer-encoding", "chunked") {
            return self.chunks(from);
        }
        match fields.get("content-length").and_then(|length| length.parse().ok()) {
            Some(length) => Ok((self.exactly(from, length)?, Fields::default())),
            None if to_end => Ok((self.the_rest(from)?, Fields::default())),
            None => Ok(Default::default()),
        }
    }
    fn chunks(&mut self, from: &mut dyn Read) -> io::Result<(Vec<u8>, Fields)> {
        let mut body = Vec::new();
        loop {
            let line = self.until(from, b"\r\n")?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let line = String::from_utf8_lossy(&line).into_owned();
            let size = line.trim().split(';').next().and_then(|size| usize::from_str_radix(size, 16).ok());
            match size.ok_or_else(|| io::Error::other(format!("a chunk of size {line:?}")))? {
                0 => break,
                size => body.extend(self.exactly(from, size)?),
            }
            self.exactly(from, 2)?;
        }
        let mut trailers = Vec::new();
        loop {
            let line = self.until(from, b"\r\n")?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if line == b"\r\n" {
                return Ok((body, fields(trailers.iter().map(String::as_str))));
            }
            trailers.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
    }
    pub fn exactly(&mut self, from: &mut dyn Read, size: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < size {
            if !self.more(from)? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.drain(..size).collect())
    }
    pub fn the_rest(&mut self, from: &mut dyn Read) -> io::Result<Vec<u8>> {
        while self.more(from)? {}
        Ok(std::mem::take(&mut self.buffer))
    }
}

fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> Fields {
    let pairs = lines.filter_map(|line| line.split_once(':'));
    Fields(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
}

/// One client connection.
pub struct Connection {
    stream: Box<dyn Stream>,
    reader: Reader,
    asked: String,
}

impl Connection {
    pub fn over(mut stream: impl Stream + 'static) -> Self {
        stream.patience(PATIENCE);
        Self { stream: Box::new(stream), reader: Reader::new(), asked: String::new() }
    }
    pub fn to(address: &str) -> Self {
        match address.strip_prefix("unix:") {
            Some(path) => Self::over(UnixStream::connect(path).unwrap()),
            None => Self::over(tcp(address)),
        }
    }
    /// For answers that come late.
    pub fn patient(mut self, patience: Duration) -> Self {
        self.stream.patience(patience);
        self
    }
    /// Sends bytes; an other side that has closed already is no error here.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.stream.write_all(bytes.as_ref()).and_then(|()| self.stream.flush());
        self
    }
    pub fn finish(&mut self) -> &mut Self {
        self.stream.finish();
        self
    }
    pub fn ask(&mut self, request: &Request) -> Response {
        self.asked.clone_from(&request.method);
        self.send(request.bytes());
        self.response()
    }
    pub fn get(&mut self, target: &str) -> Response {
        self.ask(&Request::get(target))
    }
    pub fn response(&mut self) -> Response {
        self.try_response().unwrap().expect("an answer before the end")
    }
    /// The next answer; none when the other side ended instead.
    pub fn try_response(&mut self) -> io::Result<Option<Response>> {
        let mut interim = Vec::new();
        loop {
            let Some((start, fields, _)) = self.reader.head(&mut self.stream)? else { return Ok(None) };
            let status = start.split(' ').nth(1).and_then(|code| code.parse().ok());
            let status: u16 = status.unwrap_or_else(|| panic!("not a status line: {start:?}"));
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let empty = self.asked == "HEAD" || matches!(status, 101 | 204 | 304);
            let (body, trailers) =
                if empty { Default::default() } else { self.reader.body(&mut self.stream, &fields, true)? };
            return Ok(Some(Response { status, fields, body, trailers, interim }));
        }
    }
    /// Only the head of the next answer, so that a body can be watched as it comes.
    pub fn head(&mut self) -> Response {
        let (start, fields, _) = self.reader.head(&mut self.stream).unwrap().expect("a head before the end");
        let status = start.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap();
        Response { status, fields, body: Vec::new(), trailers: Fields::default(), interim: Vec::new() }
    }
    /// Bytes as they come, up to and with `mark`.
    pub fn until(&mut self, mark: &str) -> String {
        let bytes = self.reader.until(&mut self.stream, mark.as_bytes()).unwrap().expect("more before the end");
        String::from_utf8_lossy(&bytes).into_owned()
    }
    pub fn exactly(&mut self, size: usize) -> Vec<u8> {
        self.reader.exactly(&mut self.stream, size).unwrap()
    }
    /// Whether the other side ends the connection within this time; what it still says is dropped.
    pub fn ends_within(&mut self, patience: Duration) -> bool {
        self.stream.patience(patience);
        let ended = match self.reader.the_rest(&mut self.stream) {
            Ok(_) => true,
            Err(e) => !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        };
        self.stream.patience(PATIENCE);
        ended
    }
    pub fn ends(&mut self) -> bool {
        self.ends_within(PATIENCE)
    }
    /// Everything until the other side ends, and whether it ended within this time.
    pub fn rest(&mut self, patience: Duration) -> (Vec<u8>, bool) {
        self.stream.patience(patience);
        let ended = loop {
            match self.reader.more(&mut self.stream) {
                Ok(true) => {}
                Ok(false) => break true,
                Err(e) => break !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
            }
        };
        (std::mem::take(&mut self.reader.buffer), ended)
    }
}

pub fn tcp(address: &str) -> TcpStream {
    let address: SocketAddr = address.parse().unwrap_or_else(|_| panic!("{address} is no address"));
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// The answers in a run of bytes.
pub fn answers(bytes: &[u8]) -> Vec<Response> {
    let mut connection = Connection::over(Recorded(io::Cursor::new(bytes.to_vec())));
    std::iter::from_fn(|| connection.try_response().ok().flatten()).collect()
}

struct Recorded(io::Cursor<Vec<u8>>);

impl Read for Recorded {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.read(room)
    }
}
impl Write for Recorded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
impl Stream for Recorded {
    fn finish(&mut self) {}
    fn patience(&mut self, _: Duration) {}
}
