//! Bodies that are not read to their end. actix reads the rest of a chunked body after the
//! response, without bound or deadline. While the body is still referenced it closes the connection
//! instead, as for bodies of a known length.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;

use actix_web::HttpMessage;
use actix_web::body::BoxBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::TRANSFER_ENCODING;
use futures_util::Stream;
use futures_util::stream::poll_fn;

use super::held::until_sent;

/// A second reference to a request's body.
pub(super) struct UnreadBody(Rc<RefCell<Payload>>);

impl UnreadBody {
    /// References the body of `request` if it is chunked; readers are not affected.
    pub(super) fn hold(request: &mut ServiceRequest) -> Option<Self> {
        if !request.headers().contains_key(TRANSFER_ENCODING) {
            return None;
        }
        let held = Rc::new(RefCell::new(request.take_payload()));
        let reader = Rc::clone(&held);
        let reads = poll_fn(move |context| Pin::new(&mut *reader.borrow_mut()).poll_next(context));
        request.set_payload(Payload::Stream { payload: Box::pin(reads) });
        Some(Self(held))
    }

    /// Keeps the reference until the response was sent.
    pub(super) fn until_sent(self, response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
        until_sent(response, self.0)
    }
}
