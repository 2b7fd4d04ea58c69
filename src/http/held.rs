//! Responses that keep a value until they were sent or their connection has ended.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::web::Bytes;

/// Keeps `held` until the body of the response is dropped.
pub(super) fn until_sent<T: Unpin + 'static>(
    response: ServiceResponse<BoxBody>,
    held: T,
) -> ServiceResponse<BoxBody> {
    response.map_body(|_, body| BoxBody::new(Holding { body, _held: held }))
}

struct Holding<T> {
    body: BoxBody,
    _held: T,
}

impl<T: Unpin> MessageBody for Holding<T> {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}
