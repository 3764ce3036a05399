"""The stores that several nodes share, by name."""

import pathlib
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.network import Loopback, Namespaces
from cluster.postgres import postgres
from cluster.redis import cluster

STORES = ["postgres", "redis"]


@contextmanager
def opened(site: Namespaces | Loopback, store: str, directory: pathlib.Path) -> Iterator[str]:
    """The URL of a store that is up and empty."""
    if store == "sqlite":
        yield f"sqlite://{directory}/doorward.db"
    elif store == "postgres":
        with postgres(site, "postgres") as (server,):
            yield server.url()
    else:
        with cluster(site) as made:
            yield made.url()
