"""Webhooks of the binary, taken by a receiver that checks them with the reference library."""

import contextlib
import pathlib
import signal
import sqlite3
import subprocess
import time

import httpx
import pytest
from conftest import BINARY, ENVIRONMENT, bearer
from receiver import SECRET, receiving

OTHER = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"


def hooks(url: str, secrets: str = SECRET) -> tuple[str, ...]:
    return ("--webhook-urls", url, "--webhook-secrets", secrets)


def test_what_happens_is_told_signed_and_once(start):
    with receiving() as receiver:
        server = start(*hooks(receiver.url))
        tokens = server.login().json()
        opened = receiver.next("logged_in")
        session = tokens["session"]["id"]
        assert opened["data"]["session"] == session
        assert opened["data"]["user"] == tokens["user"]["id"]
        server.login(password="not the password of ada")
        assert receiver.next("login_failed")["data"]["outcome"] == "failure"
        httpx.post(f"{server.url}/logout", headers=bearer(tokens["access_token"]))
        ended = receiver.next("session_ended")
        assert (ended["data"]["session"], ended["data"]["reason"]) == (session, "logout")
        assert len(set(receiver.tries)) == len(receiver.tries)


def test_a_message_that_was_not_taken_comes_again_under_its_id(start):
    with receiving() as receiver:
        receiver.answers = [500]
        server = start(*hooks(receiver.url))
        server.login()
        receiver.next("logged_in")
        assert len(receiver.tries) == 2 and len(set(receiver.tries)) == 1


def test_a_redirect_is_not_followed(start):
    with receiving() as receiver, receiving() as elsewhere:
        receiver.answers = [307]
        redirected, receiver.url = receiver.url, elsewhere.url
        server = start(*hooks(redirected))
        server.login()
        receiver.next("logged_in")
        assert elsewhere.tries == []


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"])
def test_what_is_for_this_machine_goes_through_no_proxy(start, monkeypatch, name):
    with receiving() as receiver, receiving() as proxy:
        monkeypatch.setitem(ENVIRONMENT, name, proxy.url)
        server = start(*hooks(receiver.url))
        server.login()
        receiver.next("logged_in")
        assert proxy.tries == []


def is_put_off(directory: pathlib.Path) -> bool:
    """Whether it is written down that nothing was taken. Until then the message is its sender's, for five minutes."""
    with contextlib.closing(sqlite3.connect(directory / "doorward.db")) as db:
        due = [row[0] for row in db.execute("SELECT due FROM deliveries")]
    return bool(due) and max(due) < (time.time() + 60) * 1000


def test_what_was_not_sent_is_sent_after_a_kill(start):
    with receiving() as receiver:
        server = start(*hooks("http://127.0.0.1:9/hook"))
        server.stop()
    with receiving() as receiver:
        # The first look of an address begins at the end of the log.
        receiver.answers = [503] * 100
        server = start(*hooks(receiver.url))
        server.login()
        while not (receiver.tries and is_put_off(server.directory)):
            assert server.process.poll() is None
            time.sleep(0.05)
        server.stop(signal.SIGKILL)
        receiver.answers.clear()
        start(*hooks(receiver.url))
        receiver.next("logged_in")


def test_two_processes_send_each_message_once(start):
    with receiving() as receiver:
        one, two = start(*hooks(receiver.url)), start(*hooks(receiver.url))
        sessions = {server.login().json()["session"]["id"] for server in [one, two] * 20}
        told = [receiver.next("logged_in")["data"]["session"] for _ in sessions]
        assert sorted(told) == sorted(sessions)
        assert receiver.taken.empty()


def test_each_secret_signs_so_that_one_can_be_changed(start):
    with receiving(OTHER) as receiver:
        server = start(*hooks(receiver.url, f"{SECRET},{OTHER}"))
        server.login()
        receiver.next("logged_in")


def test_only_the_events_that_are_asked_for_are_sent(start):
    with receiving() as receiver:
        events = ["--webhook-events", "session_ended,refreshed", "--event-refreshes", "0"]
        server = start(*hooks(receiver.url), *events)
        tokens = server.login().json()
        server.refresh(tokens["refresh_token"])
        httpx.post(f"{server.url}/logout", headers=bearer(tokens["access_token"]))
        types = [receiver.taken.get(timeout=20)[1]["type"] for _ in range(2)]
        assert sorted(types) == ["refreshed", "session_ended"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--webhook-urls", "https://example.org"], "webhook_secrets"),
        (["--webhook-urls", "http://example.org", "--webhook-secrets", SECRET], "https://"),
        (["--webhook-urls", "https://example.org", "--webhook-secrets", "short"], "whsec_"),
        (["--webhook-events", "nonsense"], "docs/events.md"),
        (["--webhook-secrets", SECRET], "webhook_urls"),
        (["--event-log", "off", *hooks("https://example.org")], "event_log"),
    ],
)
def test_what_cannot_be_sent_is_refused_at_the_start(tmp_path, flags, words):
    refused = subprocess.run(
        [BINARY, "check-config", *flags], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert refused.returncode != 0 and words in refused.stderr
    assert "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" not in refused.stderr
