"""Processes of the servers that tests start: each ends by its own id, and with the tests if these are killed."""

import functools
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

#: Ends a process with the thread that started it. So faults are caused by the main thread, and load by others.
WITH_US = ["setpriv", "--pdeathsig=KILL"]
NOBODY = pwd.getpwnam("nobody")


@functools.cache
def _names_for_itself() -> bool:
    """Whether a process may have user ids of its own."""
    return subprocess.run(["unshare", "--user", "true"], capture_output=True).returncode == 0


def as_nobody() -> list[str]:
    """PostgreSQL refuses to be root. In a user namespace it is nobody, and has root's files all the same: on some
    machines nobody else reads even `/`."""
    if os.geteuid() != 0:
        return WITH_US
    if _names_for_itself():
        return ["unshare", "--user", f"--map-user={NOBODY.pw_uid}", f"--map-group={NOBODY.pw_gid}", *WITH_US]
    return [*WITH_US, f"--reuid={NOBODY.pw_uid}", f"--regid={NOBODY.pw_gid}", "--clear-groups"]


def given_to_nobody(path: pathlib.Path) -> None:
    if os.geteuid() == 0 and not _names_for_itself():
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)


@contextmanager
def directory(name: str) -> Iterator[pathlib.Path]:
    """Of whom the servers run as, and away at the end. Nobody can reach what lies in pytest's own."""
    path = pathlib.Path(tempfile.mkdtemp(prefix=f"doorward-{name}-"))
    try:
        given_to_nobody(path)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Process:
    """One server's process, which can be killed and started anew."""

    def __init__(self, command: Sequence[object], log: pathlib.Path, environment: dict[str, str] | None = None) -> None:
        self.command, self.log, self.environment = [str(word) for word in command], log, environment
        self.running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self.running = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=self.environment, cwd=self.log.parent)

    @property
    def id(self) -> int:
        assert self.running is not None
        return self.running.pid

    def alive(self) -> bool:
        return self.running is not None and self.running.poll() is None

    def send(self, what: signal.Signals) -> None:
        assert self.running is not None
        self.running.send_signal(what)

    def end(self, how: signal.Signals = signal.SIGTERM, within: float = 30) -> None:
        """Also ends what it has forked, once it is killed: PostgreSQL's processes outlive their parent for a while."""
        if self.running is None or not self.alive():
            return
        children = descendants(self.id) if how == signal.SIGKILL else []
        self.send(how)
        try:
            self.running.wait(timeout=within)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            self.running.wait(timeout=30)
        for child in children:
            killed(child)

    def logged(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


def descendants(parent: int) -> list[int]:
    try:
        children = pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except OSError:
        return []
    return [one for child in children for one in (int(child), *descendants(int(child)))]


def killed(child: int) -> None:
    try:
        os.kill(child, signal.SIGKILL)
        until(lambda: not exists(child), f"process {child} ends")
    except ProcessLookupError:
        pass


def exists(process: int) -> bool:
    try:
        state = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def until(holds: Callable[[], object], what: str, within: float = 30, each: float = 0.02) -> float:
    """Waits for something outside to come about, and tells after how many seconds it did."""
    begun = time.monotonic()
    while not holds():
        if time.monotonic() - begun > within:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(each)
    return time.monotonic() - begun


def told(command: Iterable[object], within: float = 60, text: str | None = None) -> str:
    """What a command prints; it must succeed."""
    run = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=within, input=text)
    assert run.returncode == 0, f"{run.args}: {run.stdout}{run.stderr}"
    return run.stdout
