"""Client for the event streams of vx11-operator: issue tokens, publish, subscribe and resume."""

from ._async_client import AsyncClient
from ._client import Client, Subscription
from ._errors import (
    ForbiddenError,
    InvalidError,
    IssueError,
    OutcomeUnknownError,
    PublishError,
    ReplacedError,
    SubscriptionEndedError,
    UnauthorizedError,
    Vx11Error,
)
from ._issuing import Token
from ._messages import Degraded, Event, Message, Opened, Recovered, Reset, Resumed, Waiting
from ._publishing import Published
from ._subscription import AsyncSubscription

__all__ = [
    "AsyncClient",
    "AsyncSubscription",
    "Client",
    "Degraded",
    "Event",
    "ForbiddenError",
    "InvalidError",
    "IssueError",
    "Message",
    "Opened",
    "OutcomeUnknownError",
    "PublishError",
    "Published",
    "Recovered",
    "ReplacedError",
    "Reset",
    "Resumed",
    "Subscription",
    "SubscriptionEndedError",
    "Token",
    "UnauthorizedError",
    "Vx11Error",
    "Waiting",
]
