"""A proxy before a server: holds up, resets, dawdles, loses the n-th reply, or refuses the n-th operation.

It understands as much of PostgreSQL's and Redis's protocols as tells where an operation and its reply end."""

import asyncio
import collections
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, Protocol

_NO_LINGER = struct.pack("ii", 1, 0)


class Framing(Protocol):
    """What passes on one connection, in units. Bytes that are no whole unit yet wait."""

    def asked(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """Units from the client; true with the one that ends an operation."""

    def answered(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """Units from the server; true with the one that ends a reply."""


class Bytes:
    """Nothing is understood, and so nothing counted."""

    def asked(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        yield data, False

    answered = asked


class Postgres:
    """An operation ends with Sync or a simple Query, its reply with ReadyForQuery."""

    def __init__(self) -> None:
        self.up, self.down = b"", b""
        self.begun, self.answers_begun, self.ready = False, False, False
        self.operation = b""

    def asked(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        self.up += data
        while len(self.up) >= 8 and not self.begun:
            length, code = struct.unpack("!II", self.up[:8])
            if len(self.up) < length:
                return
            self.begun = code == 0x30000
            yield self._taken(length), False
        for unit in self._units():
            self.operation += unit
            if unit[:1] in (b"Q", b"S", b"H", b"p", b"X"):
                whole, self.operation = self.operation, b""
                yield whole, unit[:1] in (b"Q", b"S")

    def _units(self) -> Iterator[bytes]:
        while self.begun and len(self.up) >= 5 and len(self.up) > (length := struct.unpack("!I", self.up[1:5])[0]):
            yield self._taken(length + 1)

    def _taken(self, length: int) -> bytes:
        unit, self.up = self.up[:length], self.up[length:]
        return unit

    def answered(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        self.down += data
        if not self.answers_begun and self.down[:1] == b"N":
            # The answer to a request for TLS is a bare letter.
            self.down, refusal = self.down[1:], self.down[:1]
            yield refusal, False
        while len(self.down) >= 5 and len(self.down) > (length := struct.unpack("!I", self.down[1:5])[0]):
            self.answers_begun = True
            unit, self.down = self.down[:length + 1], self.down[length + 1:]
            # The first one ends the greeting, for which nobody asked.
            ends, self.ready = unit[:1] == b"Z" and self.ready, self.ready or unit[:1] == b"Z"
            yield unit, ends


class Redis:
    """Every value that is asked is an operation, and every one that comes back a reply, but for pushes."""

    def __init__(self) -> None:
        self.up, self.down = b"", b""

    def asked(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        self.up += data
        while end := value_end(self.up):
            unit, self.up = self.up[:end], self.up[end:]
            yield unit, True

    def answered(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        self.down += data
        while end := value_end(self.down):
            unit, self.down = self.down[:end], self.down[end:]
            yield unit, unit[:1] != b">"


def value_end(data: bytes, start: int = 0) -> int:
    """Where the RESP value that begins at `start` ends; 0 if it is not whole yet."""
    line = data.find(b"\r\n", start)
    if line < 0:
        return 0
    kind, end = data[start:start + 1], line + 2
    if kind in b"$=!":
        length = int(data[start + 1:line])
        end += length + 2 if length >= 0 else 0
        return end if end <= len(data) else 0
    if kind in b"*~>%|":
        for _ in range(max(int(data[start + 1:line]), 0) * (2 if kind in b"%|" else 1)):
            if not (end := value_end(data, end)):
                return 0
    return end


class Proxy:
    def __init__(self, target: tuple[str, int], framing: type[Framing] = Bytes, listen: str = "127.0.0.1") -> None:
        self.target, self.framing = target, framing
        self.mode = "forward"
        self.effects: collections.Counter[str] = collections.Counter()
        #: Operations since the last one that was to fail, and which is next.
        self.operations, self.lose, self.refuse = 0, 0, 0
        #: What is no operation to be counted has one of these in it.
        self.left_out: tuple[bytes, ...] = ()
        self.open: set[_Connection] = set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = self._on_loop(asyncio.start_server(self._accept, listen, 0))
        name = self.server.sockets[0].getsockname()
        self.address: tuple[str, int] = (name[0], name[1])

    def _on_loop(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, reader, writer)
        self.open.add(connection)
        try:
            await connection.run()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            connection.abort()
            self.open.discard(connection)

    def forward(self) -> None:
        self._change("forward")

    def black_hole(self) -> None:
        """Connections stay, and nothing passes."""
        self._change("black_hole")

    def dawdle(self) -> None:
        """One byte a second passes, each way."""
        self._change("dawdle")

    def reset(self) -> None:
        """All connections are reset, and new ones too."""
        self._change("reset")

    def _change(self, mode: str) -> None:
        async def change() -> None:
            self.mode = mode
            for connection in list(self.open):
                connection.changed.set()
                if mode == "reset":
                    self.effects["reset"] += 1
                    connection.abort()
        self._on_loop(change())

    def lose_reply(self, n: int) -> None:
        """The n-th operation from now on is carried out, and its client loses the connection before it hears of it."""
        self._arm(n, 0)

    def refuse_operation(self, n: int) -> None:
        """The n-th operation from now on is not carried out: its client loses the connection."""
        self._arm(0, n)

    def _arm(self, lose: int, refuse: int) -> None:
        async def arm() -> None:
            self.operations, self.lose, self.refuse = 0, lose, refuse
        self._on_loop(arm())

    def held_up(self) -> int:
        return sum(self.effects.values())

    def connections(self) -> int:
        return len(self.open)

    def close(self) -> None:
        async def close() -> None:
            self.server.close()
            for connection in list(self.open):
                connection.abort()
            await asyncio.sleep(0.01)
        self._on_loop(close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


class _Connection:
    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.proxy, self.reader, self.writer = proxy, reader, writer
        self.framing = proxy.framing()
        self.changed = asyncio.Event()
        self.waiting: collections.deque[int] = collections.deque()
        self.behind: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        if self.proxy.mode == "reset":
            self.proxy.effects["reset"] += 1
            return
        await self._passable()
        behind, self.behind = await asyncio.open_connection(*self.proxy.target)
        both = [asyncio.ensure_future(self._up()), asyncio.ensure_future(self._down(behind))]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for one in both:
            one.cancel()
        await asyncio.gather(*both, return_exceptions=True)

    async def _up(self) -> None:
        assert self.behind is not None
        while data := await self.reader.read(65536):
            for unit, ends in self.framing.asked(data):
                if ends and self._is_refused(unit):
                    return
                await self._pass(unit, self.behind)

    def _is_refused(self, unit: bytes) -> bool:
        if any(mark in unit for mark in self.proxy.left_out):
            self.waiting.append(-1)
            return False
        self.proxy.operations += 1
        self.waiting.append(self.proxy.operations)
        refused = self.proxy.operations == self.proxy.refuse
        self.proxy.effects["refused"] += refused
        return refused

    async def _down(self, behind: asyncio.StreamReader) -> None:
        while data := await behind.read(65536):
            for unit, ends in self.framing.answered(data):
                lost = bool(self.waiting) and self.waiting[0] == self.proxy.lose
                if ends and self.waiting:
                    self.waiting.popleft()
                if lost and ends:
                    self.proxy.effects["lost"] += 1
                    return
                if not lost:
                    await self._pass(unit, self.writer)

    async def _pass(self, unit: bytes, to: asyncio.StreamWriter) -> None:
        await self._passable()
        while self.proxy.mode == "dawdle" and unit:
            self.proxy.effects["dawdled"] += 1
            to.write(unit[:1])
            unit = unit[1:]
            await asyncio.sleep(1)
        to.write(unit)
        await to.drain()

    async def _passable(self) -> None:
        while self.proxy.mode == "black_hole":
            self.proxy.effects["held up"] += 1
            self.changed.clear()
            await self.changed.wait()

    def abort(self) -> None:
        for writer in (self.writer, self.behind):
            if writer is not None:
                raw: socket.socket = writer.get_extra_info("socket")
                if raw.fileno() >= 0:
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                writer.transport.abort()
