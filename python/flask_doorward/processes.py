"""Forks and greenlets: where the engine's calls run, and what a child process inherits."""

import atexit
import importlib
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from weakref import WeakSet

from ._native import after_fork, before_fork

if TYPE_CHECKING:
    from .mounted import Mounted

P = ParamSpec("P")
T = TypeVar("T")

#: Whose doors a fork closes first: no thread, no lock and no file of the parent is in the child. Both
#: open theirs again at the next use, once the fork is over.
mounted_here: "WeakSet[Mounted]" = WeakSet()


def blocking(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """A call that hashes or waits for the store. Under gevent it runs in the hub's thread pool, so
    that the loop goes on."""
    if not _is_gevent():
        return call(*args, **kwargs)
    pool: Any = importlib.import_module("gevent").get_hub().threadpool
    result: T = pool.apply(call, args, kwargs)
    return result


def _is_gevent() -> bool:
    monkey: Any = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def close_all() -> None:
    """Closes every door of this process."""
    for mounted in tuple(mounted_here):
        mounted.close()


# What the log of events holds back is written.
atexit.register(close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=partial(before_fork, close_all), after_in_parent=after_fork)
