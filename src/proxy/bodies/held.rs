//! An answer that changes as a whole: its head stays here until that is done.

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use pingora_error::{Error, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::{Steps, changed, encoder, tags, unframe};
use crate::exchange::Refusal;
use crate::fault::Fault;
use crate::policy::compress;
use crate::policy::decode::Coded;
use crate::policy::transform::{Form, Side};
use crate::proxy::ctx::Ctx;
use crate::proxy::response::rebuild;
use crate::route::Route;

#[derive(Debug)]
pub(super) struct Held {
    head: Box<ResponseHeader>,
    body: BytesMut,
    coded: Coded,
    form: Form,
}

/// Prepares for an answer that changes; whether its head stays here until its end.
pub(super) fn hold(
    session: &mut Session,
    route: &Route,
    side: &Side,
    head: &mut ResponseHeader,
    steps: &mut Steps,
    ctx: &mut Ctx,
) -> Result<bool> {
    let form = form(side, head).map_err(|refusal| ctx.refuse(refusal))?;
    tags::mark(session, route, side, head, form.is_some(), ctx)?;
    let Some((coded, form)) = form else { return Ok(false) };
    rebuild(head, |fields| {
        of_changed(side, fields);
        Ok(())
    })?;
    if session.req_header().method == Method::HEAD {
        return Ok(false);
    }
    if form == Form::Lines && coded == Coded::Plain {
        steps.line = Some(BytesMut::new());
        unframe(session, head)?;
        return Ok(false);
    }
    session.set_ignore_info_resp(true);
    let head = std::mem::replace(head, ResponseHeader::build(StatusCode::PROCESSING, Some(0))?);
    steps.held = Some(Held { head: Box::new(head), body: BytesMut::new(), coded, form });
    Ok(true)
}

/// How the body of this answer is read; nothing where it passes as it is.
fn form(side: &Side, head: &ResponseHeader) -> Result<Option<(Coded, Form)>, Refusal> {
    let length = compress::content_length(&head.headers);
    let empty = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT) || length == Some(0);
    if !head.status.is_success() || empty {
        return Ok(None);
    }
    let Some(form) = side.form(head.headers.get(header::CONTENT_TYPE))? else { return Ok(None) };
    if head.status == StatusCode::PARTIAL_CONTENT {
        return Err(side.part());
    }
    let coded = Coded::of(&head.headers).map_err(|why| side.unreadable(why))?;
    if form == Form::Whole && length.is_some_and(|length| length > side.most() as u64) {
        return Err(side.too_large());
    }
    Ok(Some((coded, form)))
}

/// The head of an answer whose body is changed. Trailers that it promises do not come with another body.
fn of_changed(side: &Side, fields: &mut HeaderMap) {
    for name in [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::TRAILER] {
        fields.remove(name);
    }
    compress::of_other_bytes(fields);
    if let Some(kind) = side.kind() {
        fields.insert(header::CONTENT_TYPE, kind.clone());
    }
}

impl Held {
    /// One more piece.
    pub(super) fn take(&mut self, given: &[u8], side: &Side) -> Result<(), Refusal> {
        if self.body.len() + given.len() > side.most() {
            return Err(side.too_large());
        }
        self.body.extend_from_slice(given);
        Ok(())
    }

    /// All of it is there: its head goes out, and what its body becomes comes back.
    pub(super) fn change(
        self,
        session: &mut Session,
        route: &Route,
        side: &Side,
        steps: &mut Steps,
        ctx: &mut Ctx,
    ) -> Result<Bytes> {
        let status = Some(self.head.status.as_u16());
        let made =
            changed(session, route, side, status, ctx, |facts| side.whole(&self.body, self.coded, self.form, facts));
        let made = Bytes::from(made.map_err(|refusal| ctx.refuse(refusal))?);
        let mut head = *self.head;
        head.remove_header(&header::TRANSFER_ENCODING);
        head.insert_header(header::CONTENT_LENGTH, HeaderValue::from(made.len()))?;
        steps.encoder = encoder(session, route, &mut head, ctx)?;
        say(session, head)?;
        Ok(made)
    }
}

/// Writes the head that was kept. Nothing was written before it, so that it goes into the socket at once; where it does not,
/// the answer ends here.
fn say(session: &mut Session, mut head: ResponseHeader) -> Result<()> {
    head.set_version(Version::HTTP_11);
    let written = session.downstream_session.write_response_header(Box::new(head)).now_or_never();
    written.unwrap_or_else(|| Err(Fault::ClientGone.into())).map_err(Error::into_down)
}
