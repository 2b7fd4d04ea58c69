"""The end of a connection: the wait for the next one, or the error that ends the subscription."""

import httpx

from ._backoff import Backoff
from ._connection import LostError
from ._errors import (
    ForbiddenError,
    InvalidError,
    ReplacedError,
    SubscriptionEndedError,
    UnauthorizedError,
)
from ._messages import Waiting
from ._reception import SentAwayError

_ACCESS_ENDS = {"grant_ended", "revoked", "blocked", "ended"}
"""Reasons that are about what the token may open."""
_REPLACED = "replaced"
"""Reason after which another stream has the place of this one."""
_NOT_PERMITTED = "not_permitted"
"""Code of the refusal of topics that the token does not grant."""
_FINAL: dict[int, type[SubscriptionEndedError]] = {
    httpx.codes.BAD_REQUEST: InvalidError,
    httpx.codes.UNAUTHORIZED: UnauthorizedError,
    httpx.codes.FORBIDDEN: ForbiddenError,
}


class Ends:
    """Decides after each connection."""

    def __init__(self, backoff: Backoff, *, asks_as_principal: bool) -> None:
        self._backoff = backoff
        self._asks_as_principal = asks_as_principal

    def after(self, end: SentAwayError | LostError, lasted: float | None) -> Waiting:
        """Returns the wait after a connection.

        It was open for `lasted` seconds; `None`: it never was. Raises `SubscriptionEndedError`.
        """
        if lasted is not None:
            self._backoff.settle(lasted)
        return self._sent_away(end) if isinstance(end, SentAwayError) else self._lost(end)

    def _sent_away(self, end: SentAwayError) -> Waiting:
        if end.reason == _REPLACED:
            # To come back would end the other stream, whose client would come back in turn.
            message = "another stream of the same user or token took the place of this one"
            raise ReplacedError(message, cause=_REPLACED)
        if end.reason in _ACCESS_ENDS:
            delay = self._backoff.next_after_access_end(end.delay or 0.0)
        else:
            delay = self._backoff.next() if end.delay is None else end.delay
        return Waiting(end.reason, delay, by_server=True, attempt=self._backoff.failures)

    def _lost(self, end: LostError) -> Waiting:
        if self._is_final(end):
            facts = f"{end.status} {end.code}".strip()
            message = f"{end.cause}: {facts}: {end.detail or end.error}"
            raise _FINAL[end.status](
                message, cause=end.cause, status=end.status, code=end.code
            ) from end.error
        return Waiting(
            end.cause,
            self._backoff.next_after(end.retry_after),
            status=end.status,
            code=end.code,
            attempt=self._backoff.failures,
            error=end.error,
        )

    def _is_final(self, end: LostError) -> bool:
        """Whether repeating the request gets the same answer, or looks like guessing credentials.

        A backend may answer 400 for other reasons than the service.
        """
        is_bad_request = end.status == httpx.codes.BAD_REQUEST
        is_forbidden = end.status == httpx.codes.FORBIDDEN
        match end.cause:
            case "issue":
                is_unauthorized = end.status == httpx.codes.UNAUTHORIZED
                is_invalid = is_bad_request and self._asks_as_principal
                return is_unauthorized or is_forbidden or is_invalid
            case "refused":
                return is_bad_request or (is_forbidden and end.code == _NOT_PERMITTED)
            case _:
                return False
