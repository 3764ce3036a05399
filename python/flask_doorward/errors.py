"""What is refused, as exceptions of Werkzeug's classes that carry the engine's finished answer."""

import json
from collections.abc import Sequence
from typing import Any

from flask import Response
from werkzeug import exceptions
from werkzeug.datastructures import Headers

from ._native import Answer, Event


class DoorwardError(exceptions.HTTPException):
    """A refusal. `errorhandler(401)` and its like see it; unhandled, `response` is the answer."""

    #: The stable name of what went wrong, such as `token_expired`.
    error: str
    #: Why a session ended, where that is what went wrong.
    reason: str | None
    #: The problem document. Flask-RESTX answers with it.
    data: dict[str, Any]
    #: What happened on the way.
    events: Sequence[Event]

    def __init__(self, answer: Answer, response_class: type[Response] = Response) -> None:
        self.data = json.loads(answer.body) if answer.body else {}
        response = response_of(answer, response_class)
        exceptions.HTTPException.__init__(self, self.data.get("detail"), response)
        self.code = answer.status
        self.error = self.data.get("code", "")
        self.reason = self.data.get("reason")
        self.events = answer.events


class BadRequest(DoorwardError, exceptions.BadRequest):
    """400"""


class Unauthorized(DoorwardError, exceptions.Unauthorized):
    """401: who is it?"""

    www_authenticate = None


class Forbidden(DoorwardError, exceptions.Forbidden):
    """403"""


class NotFound(DoorwardError, exceptions.NotFound):
    """404"""


class Conflict(DoorwardError, exceptions.Conflict):
    """409: the name is taken, or the user has as many sessions as one may have."""


class PayloadTooLarge(DoorwardError, exceptions.RequestEntityTooLarge):
    """413"""

    retry_after = None


class UnsupportedMediaType(DoorwardError, exceptions.UnsupportedMediaType):
    """415: not JSON."""


class PasswordTooWeak(DoorwardError, exceptions.UnprocessableEntity):
    """422"""


class TooManyAttempts(DoorwardError, exceptions.TooManyRequests):
    """429"""

    retry_after = None


class Unavailable(DoorwardError, exceptions.ServiceUnavailable):
    """503: overloaded, or the store does not answer."""

    retry_after = None


CLASSES: dict[int, type[DoorwardError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: PayloadTooLarge,
    415: UnsupportedMediaType,
    422: PasswordTooWeak,
    429: TooManyAttempts,
    503: Unavailable,
}


def refusal(answer: Answer, response_class: type[Response] = Response) -> DoorwardError:
    """The exception that an answer of 400 and above is raised as."""
    return CLASSES.get(answer.status, DoorwardError)(answer, response_class)


def response_of(answer: Answer, response_class: type[Response] = Response) -> Response:
    """The answer with exactly the engine's headers."""
    response = response_class(answer.body, answer.status)
    response.headers = Headers(answer.headers)
    return response
