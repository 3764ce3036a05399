"""The app, the request and the globals at work, without Flask's proxies, whose attributes take a
microsecond each: most of what protecting a view would cost."""

from collections.abc import Callable
from typing import Any, cast

import flask

app: Callable[[], flask.Flask] = cast(Any, flask.current_app)._get_current_object
request: Callable[[], flask.Request] = cast(Any, flask.request)._get_current_object
g: Callable[[], Any] = cast(Any, flask.g)._get_current_object
