//! How a verb asks the running gateway: at its admin address, which the document says.

use std::time::Duration;

use clap::Args;
use http::Method;

use super::{Document, Exit, fail};
use crate::client::http::{Answer, Call};
use crate::config;
use crate::units::Address;

/// How long an answer may take; a successor has less than a minute to serve.
const PATIENCE: Duration = Duration::from_secs(80);

#[derive(Args)]
pub(super) struct Door {
    #[command(flatten)]
    document: Document,
    /// The admin address; else what the document says.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<Address>,
}

impl Door {
    /// The same, where only the user of the gateway may ask.
    pub(super) fn ask_privately(&self, target: &str) -> Result<Answer, Exit> {
        let loaded = config::load(&self.document.config);
        let control = loaded.document.admin.control_of_another();
        let control = control.ok_or_else(|| {
            fail(
                Exit::NotRunning,
                "the gateway has no control socket (admin.control); the signal USR2 upgrades it without one",
            )
        })?;
        ask(&control, Method::POST, target)
    }

    /// What the gateway answers, or how the verb ends without an answer.
    pub(super) fn ask(&self, method: Method, target: &str) -> Result<Answer, Exit> {
        let admin = self.admin.clone().map_or_else(|| admin_of(&self.document), Ok);
        let admin = admin.map_err(|why| fail(Exit::FileMissing, &why))?;
        ask(&admin, method, target)
    }
}

fn ask(to: &Address, method: Method, target: &str) -> Result<Answer, Exit> {
    let call = Call { to, method, target, deadline: PATIENCE, cap: 16 << 20 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| fail(Exit::Internal, &format!("cannot start a runtime: {why}")))?;
    let answer = runtime.block_on(call.send());
    answer.map_err(|why| fail(Exit::NotRunning, &format!("no running gateway at {to}: {why}")))
}

/// Where the running gateway is asked, by the document; one that is wrong elsewhere may still say it.
fn admin_of(document: &Document) -> Result<Address, String> {
    let loaded = config::load(&document.config);
    match loaded.unreadable {
        Some(why) => Err(format!("{}: {why}", document.config.display())),
        None => Ok(loaded.document.admin.bind),
    }
}
