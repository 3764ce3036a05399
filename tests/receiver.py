"""The other side of a webhook: checks each message with the reference library of Standard Webhooks."""

import contextlib
import http.server
import queue
import threading
from collections.abc import Iterator
from typing import Any

from standardwebhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Receiver:
    """Takes messages, or answers what `answers` says next."""

    def __init__(self, secret: str = SECRET) -> None:
        self.webhook = Webhook(secret)
        self.taken: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self.answers: list[int] = []
        self.tries: list[str] = []
        self.url = ""

    def take(self, headers: dict[str, str], body: bytes) -> int:
        message = self.webhook.verify(body, headers)
        self.tries.append(headers["webhook-id"])
        if self.answers:
            return self.answers.pop(0)
        self.taken.put((headers["webhook-id"], message))
        return 204

    def next(self, type: str) -> dict[str, Any]:
        """The next message of a type; others before it are passed over."""
        while True:
            _, message = self.taken.get(timeout=20)
            if message["type"] == type:
                return message


@contextlib.contextmanager
def receiving(secret: str = SECRET) -> Iterator[Receiver]:
    receiver = Receiver(secret)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                status = receiver.take(headers, body)
            except Exception as error:  # What does not verify is told by the test's end.
                receiver.tries.append(repr(error))
                status = 400
            self.send_response(status)
            if status in (301, 307):
                self.send_header("location", receiver.url + "/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
