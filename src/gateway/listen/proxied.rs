//! The PROXY protocol, versions 1 and 2: who the client of a load balancer in front of us is.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt;

use crate::gateway::conn::Raw;

/// What a header says: the client and the address it went to; `None` when the balancer speaks for itself.
type Said = Option<(SocketAddr, SocketAddr)>;

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// A header of version 1 has at most 107 bytes; one of version 2 may carry long extras, which are skipped.
const MOST: usize = 4096;

/// Reads the header that a trusted balancer must send; what follows it stays in the stream.
pub(super) async fn read(raw: &mut Raw) -> io::Result<Said> {
    let mut bytes = Vec::with_capacity(256);
    loop {
        if let Some((said, used)) = parse(&bytes).map_err(broken)? {
            raw.unread(bytes.get(used..).unwrap_or_default());
            return Ok(said);
        }
        if bytes.len() >= MOST {
            return Err(broken("a PROXY header without end"));
        }
        if raw.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The header at the start of `bytes` and its length; `None` while it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<(Said, usize)>, &'static str> {
    let starts = |with: &[u8]| bytes.iter().zip(with).all(|(got, said)| got == said);
    if starts(V2) {
        return v2(bytes);
    }
    if !starts(b"PROXY ") {
        return Err("no PROXY header");
    }
    let Some(end) = memchr::memmem::find(bytes, b"\r\n") else {
        return if bytes.len() > 107 { Err("a PROXY line that is too long") } else { Ok(None) };
    };
    let line =
        bytes.get(..end).and_then(|line| std::str::from_utf8(line).ok()).ok_or("a PROXY line that is not text")?;
    if end > 105 {
        return Err("a PROXY line that is too long");
    }
    v1(line).map(|said| Some((said, end + 2)))
}

fn v1(line: &str) -> Result<Said, &'static str> {
    let mut words = line.split(' ').skip(1);
    let family = words.next().ok_or("a PROXY line without a family")?;
    if family == "UNKNOWN" {
        return Ok(None);
    }
    let [from, to, from_port, to_port] =
        [words.next(), words.next(), words.next(), words.next()].map(Option::unwrap_or_default);
    if words.next().is_some() {
        return Err("a PROXY line with too many words");
    }
    let address = |ip: &str, port: &str| {
        let ip: IpAddr = ip.parse().map_err(|_| "a PROXY line with a bad address")?;
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port: u16 = port.parse().ok().filter(|_| digits).ok_or("a PROXY line with a bad port")?;
        let fits = match family {
            "TCP4" => ip.is_ipv4(),
            "TCP6" => ip.is_ipv6(),
            _ => false,
        };
        if fits { Ok(SocketAddr::new(ip.to_canonical(), port)) } else { Err("a PROXY line with a bad family") }
    };
    Ok(Some((address(from, from_port)?, address(to, to_port)?)))
}

fn v2(bytes: &[u8]) -> Result<Option<(Said, usize)>, &'static str> {
    let Some(&[command, family, high, low]) = bytes.get(12..16) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if 16 + length > MOST {
        return Err("a PROXY header that is too long");
    }
    let Some(body) = bytes.get(16..16 + length) else { return Ok(None) };
    let said = match (command, family) {
        (0x21, 0x11) => Some(v4_pair(body).ok_or("a PROXY header that is too short")?),
        (0x21, 0x21) => Some(v6_pair(body).ok_or("a PROXY header that is too short")?),
        // Its own checks, datagrams, unix sockets and what is not specified: the balancer's own address stands.
        (0x20, _) | (0x21, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => None,
        _ => return Err("a PROXY header of an unknown kind"),
    };
    Ok(Some((said, 16 + length)))
}

fn v4_pair(body: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (from, rest) = body.split_first_chunk::<4>()?;
    let (to, rest) = rest.split_first_chunk::<4>()?;
    pair(Ipv4Addr::from(*from).into(), Ipv4Addr::from(*to).into(), rest)
}

fn v6_pair(body: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (from, rest) = body.split_first_chunk::<16>()?;
    let (to, rest) = rest.split_first_chunk::<16>()?;
    pair(Ipv6Addr::from(*from).into(), Ipv6Addr::from(*to).into(), rest)
}

fn pair(from: IpAddr, to: IpAddr, ports: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let [a, b, c, d] = *ports.first_chunk::<4>()?;
    let address = |ip: IpAddr, port| SocketAddr::new(ip.to_canonical(), u16::from_be_bytes(port));
    Some((address(from, [a, b]), address(to, [c, d])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2_header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2, &[command, family], &length, body].concat()
    }

    #[test]
    fn both_versions_name_the_client() {
        let four = v2_header(0x21, 0x11, &[10, 0, 0, 1, 10, 0, 0, 2, 0, 80, 1, 187, 4, 0, 1, 0]);
        let six = v2_header(0x21, 0x21, &[[0x20, 1].as_slice(), &[0; 34]].concat());
        let rows: [(&[u8], Option<&str>); 7] = [
            (b"PROXY TCP4 10.0.0.1 10.0.0.2 80 443\r\n", Some("10.0.0.1:80")),
            (b"PROXY TCP6 2001:db8::1 ::1 80 443\r\n", Some("[2001:db8::1]:80")),
            (b"PROXY TCP6 ::ffff:10.0.0.1 ::1 80 443\r\n", Some("10.0.0.1:80")),
            (b"PROXY UNKNOWN whatever\r\n", None),
            (&four, Some("10.0.0.1:80")),
            (&six, Some("[2001::]:0")),
            (&v2_header(0x20, 0, &[]), None),
        ];
        for (bytes, client) in rows {
            let (said, used) = parse(&[bytes, b"GET"].concat()).unwrap().unwrap();
            assert_eq!(said.map(|(from, _)| from.to_string()).as_deref(), client);
            assert_eq!(used, bytes.len());
            for part in 0..bytes.len() {
                assert_eq!(parse(&bytes[..part]), Ok(None), "{part} of {}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for bytes in [
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"PROXY TCP4 10.0.0.1 10.0.0.2 80\r\n".to_vec(),
            b"PROXY TCP4 10.0.0.1 10.0.0.2 80 443 1\r\n".to_vec(),
            b"PROXY TCP4 ::1 ::1 80 443\r\n".to_vec(),
            b"PROXY TCP4 10.0.0.1 10.0.0.2 +80 443\r\n".to_vec(),
            b"PROXY TCP4 10.0.0.1 10.0.0.2 99999 443\r\n".to_vec(),
            b"PROXY\r\n".to_vec(),
            [b"PROXY ".to_vec(), vec![b'x'; 120]].concat(),
            v2_header(0x11, 0x11, &[0; 12]),
            v2_header(0x21, 0x11, &[0; 4]),
            v2_header(0x21, 0x99, &[0; 12]),
            v2_header(0x21, 0x11, &[0; 5000]),
        ] {
            assert!(parse(&bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }
}
