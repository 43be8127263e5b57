//! A script that Redis runs: known to it by its SHA-1, sent whole where it does not know it.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind};

/// A script in Lua, which sees one key.
#[derive(Debug)]
pub struct Script {
    text: &'static str,
    sha: String,
}

impl Script {
    pub fn new(text: &'static str) -> Self {
        let mut sha = String::with_capacity(40);
        for byte in digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref() {
            let _ = write!(sha, "{byte:02x}");
        }
        Self { text, sha }
    }

    /// Runs it; a Redis that has started anew is sent the whole of it once.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        on: &mut impl ConnectionLike,
        key: &str,
        arguments: &[Argument<'_>],
    ) -> RedisResult<T> {
        match command("EVALSHA", &self.sha, key, arguments).query_async(on).await {
            Err(why) if why.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                command("EVAL", self.text, key, arguments).query_async(on).await
            }
            answer => answer,
        }
    }
}

fn command(verb: &str, script: &str, key: &str, arguments: &[Argument<'_>]) -> Cmd {
    let mut command = Cmd::with_capacity(4 + arguments.len(), 64 + script.len() + key.len() + 16 * arguments.len());
    command.arg(verb).arg(script).arg(1).arg(key);
    for argument in arguments {
        match argument {
            Argument::Text(text) => command.arg(*text),
            Argument::Number(number) => command.arg(*number),
            Argument::Bytes(bytes) => command.arg(*bytes),
        };
    }
    command
}

/// What a script is told beside its key.
#[derive(Debug, Clone, Copy)]
pub enum Argument<'a> {
    Text(&'a str),
    Number(i64),
    Bytes(&'a [u8]),
}
