"""The files in memory by which processes of one machine tell each other of ends: a store's stays for its next
process, so tests remove those of theirs."""

import hashlib
import os
import pathlib
from collections.abc import Iterable

_USED: set[str] = set()


def used(words: Iterable[object]) -> None:
    """Stores on servers among the words of a command: their rings go when this process has run its tests."""
    _USED.update(word for word in map(str, words) if word.startswith(("postgres://", "redis://")))


def remove_all() -> None:
    while _USED:
        remove_ring(_USED.pop())


def remove_ring(store: str) -> None:
    """Of the store whose URL this is, once nobody uses it."""
    digest = hashlib.sha256(_named(store).encode()).hexdigest()[:16]
    pathlib.Path(f"/dev/shm/doorward-{os.geteuid()}-{digest}").unlink(missing_ok=True)


def _named(url: str) -> str:
    """As the store says it: without what tells only how it is reached."""
    place, _, query = url.partition("?")
    pairs = [pair for pair in query.split("&") if pair.partition("=")[0] in ("cluster", "prefix", "schema")]
    if place.startswith("postgres:"):
        return f"{place}?{(pairs or ['schema=doorward'])[0]}"
    return "?".join([place if place.count("/") > 2 else place + "/", *(["&".join(pairs)] if pairs else [])])
