//! How a verb asks the running gateway: at its admin address, which the document says.

use std::time::Duration;

use clap::Args;
use http::Method;

use super::{Document, Exit, fail};
use crate::client::http::{Answer, Call};
use crate::config;
use crate::units::Address;

#[derive(Args)]
pub(super) struct Door {
    #[command(flatten)]
    pub(super) document: Document,
    /// The admin address; else what the document says.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<Address>,
}

impl Door {
    /// What the gateway answers, or how the verb ends without an answer.
    pub(super) fn ask(&self, method: Method, target: &str) -> Result<Answer, Exit> {
        self.say(method, target, &[])
    }

    /// The same with a body.
    pub(super) fn say(&self, method: Method, target: &str, body: &[u8]) -> Result<Answer, Exit> {
        let admin = self.admin.clone().map_or_else(|| admin_of(&self.document), Ok);
        let admin = admin.map_err(|why| fail(Exit::FileMissing, &why))?;
        let call = Call { to: &admin, method, target, body, deadline: Duration::from_mins(1), cap: 64 << 20 };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|why| fail(Exit::Internal, &format!("cannot start a runtime: {why}")))?;
        let answer = runtime.block_on(call.send());
        answer.map_err(|why| fail(Exit::NotRunning, &format!("no running gateway: {why}")))
    }
}

/// Where the running gateway is asked, by the document; one that is wrong elsewhere may still say it.
fn admin_of(document: &Document) -> Result<Address, String> {
    let loaded = config::load(&document.config);
    match loaded.unreadable {
        Some(why) => Err(format!("{}: {why}", document.config.display())),
        None => Ok(loaded.document.admin.bind),
    }
}
