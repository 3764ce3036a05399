"""ROUTES: the blueprint, made from the engine's own table."""

from collections.abc import Callable
from functools import partial
from typing import Any

from flask import Blueprint, Request, Response, request
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import ClientDisconnected, HTTPException, NotFound, RequestEntityTooLarge
from werkzeug.wsgi import get_input_stream

from ._native import MAX_BODY, ROUTES, Answer
from .cli import commands
from .errors import DoorwardError
from .guards import public
from .mounted import Mounted, mounted_as
from .processes import blocking


def blueprint(name: str) -> Blueprint:
    """The endpoints of an instance. Which an app mounts its settings say."""
    made = Blueprint(name, __name__)
    made.record(partial(_mount, name))
    made.before_request(partial(_preflight, name))
    for group in commands(name):
        made.cli.add_command(group)
    return made


def _mount(name: str, state: BlueprintSetupState) -> None:
    mounted: Mounted = state.app.extensions["doorward"][name]
    views: dict[str, Callable[..., Any]] = {}
    for method, path, endpoint in ROUTES:
        if mounted.mounts(endpoint):
            view = views.setdefault(endpoint, _view(name, endpoint))
            state.add_url_rule(_rule(path), endpoint, view, methods=[method])


def _rule(path: str) -> str:
    return path.replace("{", "<").replace("}", ">")


def _view(name: str, endpoint: str) -> Callable[..., Response]:
    # It guards itself.
    @public
    def view(**segments: str) -> Response:
        return serve(mounted_as(name), endpoint)

    return view


def serve(mounted: Mounted, endpoint: str) -> Response:
    """The answer of an endpoint. What nobody answers is not there."""
    if not mounted.callbacks.flags.answers(endpoint):
        raise NotFound
    try:
        answer = _answer(mounted, endpoint)
    except DoorwardError as error:
        mounted.tell_cause(error)
        raise
    return mounted.finished(answer)


def _answer(mounted: Mounted, endpoint: str) -> Answer:
    door = mounted.door
    try:
        body = read(request)
    except RequestEntityTooLarge:
        return door.too_large(request.environ)
    except ClientDisconnected:
        return door.unreadable(request.environ)
    except HTTPException:
        raise
    except Exception:
        # Servers have classes of their own for chunks that are none.
        return door.unreadable(request.environ)
    reply = blocking(door.call, endpoint, request.environ, body)
    return reply if isinstance(reply, Answer) else mounted.callbacks.settle(reply)


def read(request: Request) -> bytes:
    """The body, bounded. One that the app has read before is read again."""
    if request.content_length is None:
        return _read_to_the_end(request) or request.get_data()
    if request.content_length > MAX_BODY:
        raise RequestEntityTooLarge
    return request.get_data()


def _read_to_the_end(request: Request) -> bytes:
    limit = min(MAX_BODY, request.max_content_length or MAX_BODY)
    # The stream ends silently at its maximum.
    body = get_input_stream(request.environ, max_content_length=limit + 1).read()
    if len(body) > limit:
        raise RequestEntityTooLarge
    return body


def _preflight(name: str) -> Response | None:
    asks = "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in request.environ
    if request.method != "OPTIONS" or not asks:
        return None
    mounted = mounted_as(name)
    if not mounted.settings.options.get("allowed_origins"):
        return None
    return mounted.finished(mounted.door.preflight(request.environ))
