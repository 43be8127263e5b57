//! How a verb asks the running gateway: at its admin address, which the document says.

use std::fmt::Write;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use clap::Args;
use http::Method;
use serde_json::Value;

use super::{Document, Exit, Format, Output, fail};
use crate::client::http::{Answer, Call};
use crate::config::{self, Loaded, report};
use crate::units::{self, Address};

/// How long an answer may take; a successor has less than a minute to serve.
const PATIENCE: Duration = Duration::from_secs(80);

#[derive(Args)]
pub(super) struct Door {
    #[command(flatten)]
    pub(super) document: Document,
    /// The admin address; else what the document says.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<Address>,
}

/// A page of the running gateway, and for whom.
#[derive(Args)]
pub(super) struct View {
    #[command(flatten)]
    door: Door,
    #[command(flatten)]
    output: Output,
}

impl View {
    /// Shows the page as it is, or as `told` tells it.
    pub(super) fn show(&self, target: &str, told: impl FnOnce(&Value) -> String) -> Exit {
        self.door.show(target, self.output, told)
    }
}

impl Door {
    /// The same, where only the user of the gateway may ask.
    pub(super) fn ask_privately(&self, target: &str) -> Result<Answer, Exit> {
        let loaded = readable(&self.document)?;
        let control = loaded.document.admin.control_of_another();
        let control = control.ok_or_else(|| {
            fail(
                Exit::NotRunning,
                "the gateway has no control socket (admin.control); the signal USR2 upgrades it without one",
            )
        })?;
        ask(&control, Method::POST, target, &[])
    }

    /// What the gateway answers, or how the verb ends without an answer.
    pub(super) fn ask(&self, method: Method, target: &str) -> Result<Answer, Exit> {
        self.say(method, target, &[])
    }

    /// The same with a body.
    pub(super) fn say(&self, method: Method, target: &str, body: &[u8]) -> Result<Answer, Exit> {
        let admin = self.admin.clone().map_or_else(|| admin_of(&self.document), Ok);
        let admin = admin?;
        ask(&admin, method, target, body)
    }

    /// A page of the running gateway; what it does not know is said in its words.
    pub(super) fn look(&self, target: &str) -> Result<Value, Exit> {
        self.told(Method::GET, target)
    }

    /// The same of what is left of a page; nothing is printed where `keep` says that nothing is.
    pub(super) fn show_some(
        &self,
        target: &str,
        output: Output,
        keep: impl FnOnce(&mut Value) -> bool,
        told: impl FnOnce(&Value) -> String,
    ) -> Exit {
        let mut page = match self.look(target) {
            Ok(page) => page,
            Err(exit) => return exit,
        };
        match (keep(&mut page), output.output) {
            (false, _) => Exit::Fine,
            (true, Format::Json) => super::print(&format!("{page:#}\n")),
            (true, Format::Human) => super::print(&told(&page)),
        }
    }

    /// Shows a page as it is, or as `told` tells it.
    pub(super) fn show(&self, target: &str, output: Output, told: impl FnOnce(&Value) -> String) -> Exit {
        self.show_some(target, output, |_| true, told)
    }

    /// What it says of an order.
    pub(super) fn order(&self, target: &str) -> Exit {
        match self.told(Method::POST, target) {
            Ok(page) => super::print(&format!("{}\n", word(&page, "result"))),
            Err(exit) => exit,
        }
    }

    fn told(&self, method: Method, target: &str) -> Result<Value, Exit> {
        let is_order = method == Method::POST;
        let answer = self.ask(method, target)?;
        let page = serde_json::from_slice::<Value>(&answer.body);
        match (answer.status, page) {
            (200, Ok(page)) => Ok(page),
            (404, Ok(page)) if !is_order => Err(fail(Exit::No, word(&page, "error"))),
            (400 | 404 | 409, Ok(page)) => Err(fail(Exit::Usage, word(&page, "error"))),
            (503, Ok(page)) => Err(fail(Exit::NotRunning, word(&page, "error"))),
            (status, _) => Err(fail(Exit::Internal, &format!("the gateway answered {status}"))),
        }
    }
}

fn ask(to: &Address, method: Method, target: &str, body: &[u8]) -> Result<Answer, Exit> {
    let call = Call { to, method, target, body, deadline: PATIENCE, cap: 64 << 20 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| fail(Exit::Internal, &format!("cannot start a runtime: {why}")))?;
    let answer = runtime.block_on(call.send());
    answer.map_err(|why| {
        if is_forbidden(to) {
            let sentence = format!("you may not ask the gateway at {to}: that is for its own user and for root");
            return fail(Exit::NotPermitted, &sentence);
        }
        fail(Exit::NotRunning, &format!("no running gateway at {to}: {why}"))
    })
}

/// Whether it is a socket of somebody else.
fn is_forbidden(to: &Address) -> bool {
    let opened = to.socket_file().map(UnixStream::connect);
    opened.is_some_and(|opened| opened.is_err_and(|why| why.kind() == io::ErrorKind::PermissionDenied))
}

/// Where the running gateway is asked, by the document; one that is wrong elsewhere may still say it.
fn admin_of(document: &Document) -> Result<Address, Exit> {
    readable(document).map(|loaded| loaded.document.admin.bind)
}

/// The document, if its file can be read; else why not is told as `check` tells it.
fn readable(document: &Document) -> Result<Loaded, Exit> {
    let loaded = config::load(&document.config);
    if loaded.unreadable.is_some() {
        eprint!("{}", report::human(&loaded.problems, &loaded.places));
        return Err(Exit::of(loaded.code()));
    }
    Ok(loaded)
}

/// Every byte that could mean something in a query.
pub(super) fn escaped(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        let _ = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => out.write_char(byte.into()),
            _ => write!(out, "%{byte:02X}"),
        };
        out
    })
}

/// So many seconds as people say them.
pub(super) fn rough(seconds: u64) -> units::Duration {
    let step = [86_400, 3600, 60].into_iter().find(|step| seconds >= 2 * step).unwrap_or(1);
    units::Duration::from_secs(seconds / step * step)
}

/// A text of a page; empty where there is none.
pub(super) fn word<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A number of a page; 0 where there is none.
pub(super) fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

/// The elements of a list of a page.
pub(super) fn each<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value.get(key).into_iter().flat_map(each_of)
}

/// The elements of a list.
pub(super) fn each_of(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_mean_something_is_escaped() {
        assert_eq!(escaped("a&b=ü/"), "a%26b%3D%C3%BC%2F");
    }

    #[test]
    fn seconds_are_said_as_people_say_them() {
        let said = [7, 119, 125, 7199, 7201, 200_000].map(|seconds| rough(seconds).to_string());
        assert_eq!(said, ["7s", "119s", "2m", "119m", "2h", "2d"]);
    }
}
