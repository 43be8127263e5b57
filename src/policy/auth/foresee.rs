//! What a scheme would say of a request that is only asked about: nobody is asked who could answer.

use super::Denial;
use super::scheme::{Kind, Pass, Scheme};
use crate::exchange::Request;
use crate::fault::Fault;

impl Scheme {
    /// What it would say without asking anybody; nothing where it would have to.
    pub async fn foresee(&self, request: &dyn Request) -> Option<Result<Pass, Denial>> {
        match &self.kind {
            Kind::Ext(_) => None,
            Kind::Introspection(introspection) => match introspection.recall(request) {
                Ok(Ok(identity)) => Some(Ok(self.pass(identity))),
                Ok(Err(_)) => None,
                Err(denial) => Some(Err(denial)),
            },
            Kind::Jwt(jwt) if jwt.fetched().is_some() => {
                let answer = self.ask_now(request).await;
                let waits = |denial: &Denial| matches!(denial.fault, Fault::AuthUnavailable | Fault::AuthKeyUnknown);
                if answer.as_ref().is_err_and(waits) { None } else { Some(answer) }
            }
            kind => {
                for member in self.members() {
                    let known = Box::pin(member.foresee(request)).await?;
                    if known.is_ok() && matches!(kind, Kind::Any(_)) {
                        break;
                    }
                }
                Some(self.ask(request).await)
            }
        }
    }
}
