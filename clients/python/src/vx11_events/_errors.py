"""Errors. None contains a credential or a token."""


class Vx11Error(Exception):
    """Base of all errors of this package."""


class IssueError(Vx11Error):
    """No token was issued.

    Raise it in `issue_token` to report details: status 401 and 403 end the subscription,
    `retry_after` is the shortest wait in seconds.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        code: str = "",
        request_id: str = "",
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status; 0 if there was no answer."""
        self.code = code
        """`code` of the problem document, or `network`, `timeout`, `no_token`."""
        self.request_id = request_id
        self.retry_after = retry_after


class SubscriptionEndedError(Vx11Error):
    """The subscription has ended for good: the same request would get the same answer."""

    def __init__(self, message: str, *, cause: str, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.cause = cause
        """`issue`, `refused` or `replaced`."""
        self.status = status
        self.code = code


class UnauthorizedError(SubscriptionEndedError):
    """Status 401: nobody is logged in, or the credential is wrong."""


class ForbiddenError(SubscriptionEndedError):
    """Status 403: no token for this user, or the token does not grant the topics."""


class InvalidError(SubscriptionEndedError):
    """Status 400: the service does not understand the request, such as a topic of a wrong form."""


class ReplacedError(SubscriptionEndedError):
    """Another stream of the same user or token took the place of this one."""


class PublishError(Vx11Error):
    """The event was not published."""

    def __init__(self, message: str, *, key: str, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.key = key
        """Idempotency key of all attempts."""
        self.status = status
        """HTTP status of the last attempt; 0 if there was no answer."""
        self.code = code


class OutcomeUnknownError(PublishError):
    """It is not known whether the event was published.

    Publishing again with the same key within 15 minutes publishes it now, or returns its id.
    """
