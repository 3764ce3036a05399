"""A fleet of honest browsers (tests/fleet) on the nodes, and what they were told, fault by fault."""

import bisect
import dataclasses
import json
import os
import pathlib
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cluster.nodes import Node
from cluster.processes import WITH_US
from conftest import ROOT

BINARY = pathlib.Path(os.environ.get("TEST_FLEET", ROOT / "target/debug/fleet"))
#: The long form has a thousand; `make soak` says so.
BROWSERS = int(os.environ.get("TEST_BROWSERS", "60"))
#: Actions a second: each browser's pages do some in ten seconds, but two cores have to serve them all.
RATE = min(300, BROWSERS * 2)
#: Seconds after a store's return in which everything works again.
BOUND = 2.0
#: What takes no store, and what takes one.
LOOK, WRITES = ("verify",), ("refresh", "login")
#: Figures of each fault, for docs/reliability.md.
FIGURES = ROOT / "target/faults.jsonl"


@dataclasses.dataclass(frozen=True)
class Told:
    """One request of a browser; seconds of the monotonic clock."""

    op: str
    node: int
    start: float
    end: float
    outcome: str


@dataclasses.dataclass(frozen=True)
class Outage:
    """A fault that took effect: from when on, until when, and by what that shows."""

    fault: str
    begun: float
    returned: float
    effect: int


class Story:
    """What all browsers were told."""

    def __init__(self, history: pathlib.Path) -> None:
        lines = map(json.loads, history.read_text().splitlines())
        told = [Told(line["op"], line["node"], line["start"] / 1e6, line["end"] / 1e6, line["outcome"])
                for line in lines]
        self.told = sorted(told, key=lambda one: one.start)

    def begun(self, since: float, until: float = float("inf")) -> list[Told]:
        """In order. Long histories are asked about many short spans."""
        first, last = (bisect.bisect_left(self.told, at, key=lambda one: one.start) for at in (since, until))
        return self.told[first:last]

    def between(self, begun: float, ended: float, ops: Iterable[str], outcome: str = "") -> list[Told]:
        """Requests that began in a span."""
        return [one for one in self.begun(begun, ended) if one.op in ops and outcome in ("", one.outcome)]

    def first_success(self, since: float, op: str, nodes: Collection[int]) -> float:
        """How many seconds after an instant one of these nodes did something again."""
        # Some of what is answered then was sent before: no browser waits for so long.
        told = self.begun(since - 30, since + 30)
        ends = [one.end for one in told
                if one.end >= since and one.op == op and one.node in nodes and one.outcome == "ok"]
        return min(ends, default=float("inf")) - since

    def recovery(self, since: float, nodes: Collection[int]) -> float:
        """When every node refreshed again, and one of them logged in, which is rarer."""
        refreshed = [self.first_success(since, "refresh", [node]) for node in nodes]
        return round(max(*refreshed, self.first_success(since, "login", nodes)), 3)


class Fleet:
    def __init__(self, directory: pathlib.Path, nodes: Sequence[Node], users: pathlib.Path, *flags: object) -> None:
        self.nodes = nodes
        self.history = directory / f"history-{time.monotonic_ns()}.jsonl"
        where = [word for node in nodes for word in ("--node", node.url)]
        command = [*WITH_US, BINARY, "run", *where, "--users", users, "--clients", BROWSERS, "--rate", RATE,
                   "--seconds", 36_000, "--history", self.history, *flags]
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        ready = self.process.stderr.readline()
        assert "ready" in ready, ready + self.process.stderr.read()

    def end(self) -> dict[str, Any]:
        """The summary; no promise was broken."""
        self.process.terminate()
        output, errors = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, broken(output) + errors
        summary: dict[str, Any] = json.loads(output)
        return summary

    def story(self) -> Story:
        return Story(self.history)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def broken(output: str) -> str:
    try:
        summary = json.loads(output)
    except ValueError:
        return output
    return json.dumps({"violations": summary["violations"], "first": summary["first_violations"][:2]}, indent=1)[:6000]


def late(lasts: float) -> list[object]:
    """How soon after an end every node refuses, where the store is one that fails for so long: nodes cannot hear of what
    ended at its last moment before it is back for them, and they have polled."""
    return ["--bound-ms", round((lasts + BOUND + 1) * 1000)]


@contextmanager
def fleet(directory: pathlib.Path, nodes: Sequence[Node], users: pathlib.Path, *flags: object) -> Iterator[Fleet]:
    """Browsers that have all logged in."""
    made = Fleet(directory, nodes, users, *flags)
    try:
        yield made
    finally:
        made.close()


def caused(fault: str, begin: Callable[[], object], end: Callable[[], int], lasts: float) -> Outage:
    """A fault for some seconds, and as long as it takes to see that all is well again. `end` tells its effect."""
    begun = time.monotonic()
    begin()
    time.sleep(max(0.0, begun + lasts - time.monotonic()))
    effect = end()
    outage = Outage(fault, begun, time.monotonic(), effect)
    time.sleep(BOUND + 1)
    return outage


def judged(story: Story, outage: Outage, nodes: Sequence[int], *, noticed: bool = True) -> dict[str, Any]:
    """The figures of an outage of the store; what must hold does. Some faults nobody may notice."""
    settled = outage.returned + BOUND
    figures = measured(story, outage, nodes)
    assert outage.effect > 0, f"{outage.fault} had no effect"
    assert figures["refused"] + figures["delayed"] > 0 or not noticed, f"nobody noticed: {outage}"
    assert not story.between(outage.begun, settled + 1, LOOK, "unavailable"), f"no verification: {outage}"
    assert figures["recovery"] <= BOUND, figures
    still = [one for one in story.between(settled, settled + 1, WRITES, "unavailable") if one.end < settled + 1]
    assert not still, f"still refused after {BOUND} s: {outage}, {still[:3]}"
    return figures


def measured(story: Story, outage: Outage, nodes: Sequence[int]) -> dict[str, Any]:
    spans = (outage.begun, outage.returned)
    looks = sorted(one.end - one.start for one in story.between(*spans, LOOK, "ok"))
    refused = story.between(*spans, WRITES, "unavailable")
    delayed = [one for one in story.between(*spans, WRITES, "ok") if one.end - one.start > 0.3]
    figures = {
        "fault": outage.fault, "seconds": round(outage.returned - outage.begun, 2), "effect": outage.effect,
        "verified": len(looks), "verify_p99_ms": p99(looks), "refused": len(refused), "delayed": len(delayed),
        "refusal_p99_ms": p99(sorted(one.end - one.start for one in refused)),
        "recovery": story.recovery(outage.returned, nodes),
    }
    kept(figures)
    return figures


def p99(sorted_seconds: list[float]) -> float:
    return round(1000 * sorted_seconds[len(sorted_seconds) * 99 // 100], 1) if sorted_seconds else 0


def kept(figures: dict[str, Any]) -> None:
    with open(FIGURES, "a") as file:
        file.write(json.dumps(figures) + "\n")
