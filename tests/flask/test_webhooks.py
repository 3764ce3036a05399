"""Webhooks of a Flask app: sent from the web process, also by the child of a fork."""

import os
import pathlib
import subprocess
import sys

import pytest
from apps import add_ada, bare, login, protected
from receiver import SECRET, receiving


def hooks(url: str, tmp_path: pathlib.Path) -> dict[str, object]:
    return {
        "DOORWARD_STORE": f"sqlite://{tmp_path}/doorward.db",
        "DOORWARD_WEBHOOK_URLS": [url],
        "DOORWARD_WEBHOOK_SECRETS": [SECRET],
    }


def test_what_happens_is_told(tmp_path):
    with receiving() as receiver:
        app, auth = protected(**hooks(receiver.url, tmp_path))
        user = add_ada(app, auth)
        login(app.test_client())
        assert receiver.next("logged_in")["data"]["user"] == user


#: A process of its own, as servers fork: each byte on standard input lets it go on.
FORKS = """
import os, pathlib, sys
from apps import add_ada, login, protected
from test_webhooks import hooks

app, auth = protected(**hooks(sys.argv[1], pathlib.Path(sys.argv[2])))
add_ada(app, auth)
login(app.test_client())
os.read(0, 1)
child = os.fork()
if child == 0:
    login(app.test_client())
    os.read(0, 1)
    os._exit(0)
os.waitpid(child, 0)
login(app.test_client())
os.read(0, 1)
"""


def test_the_child_of_a_fork_sends_too(tmp_path):
    here = pathlib.Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}:{here.parent}"}
    with receiving() as receiver:
        command = [sys.executable, "-c", FORKS, receiver.url, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as process:
            for _ in range(3):
                receiver.next("logged_in")
                process.stdin.write(b".")
                process.stdin.flush()
        assert process.returncode == 0
        assert len(set(receiver.tries)) == len(receiver.tries)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"DOORWARD_WEBHOOK_URLS": ["https://example.org"]}, "WEBHOOK_SECRETS"),
        ({"DOORWARD_WEBHOOK_SECRETS": ["short"]}, "DOORWARD_WEBHOOK_SECRETS"),
        ({"DOORWARD_WEBHOOK_URLS": ["http://example.org"]}, "DOORWARD_WEBHOOK_URLS"),
        ({"DOORWARD_WEBHOOK_EVENTS": ["nonsense"]}, "DOORWARD_WEBHOOK_EVENTS"),
    ],
)
def test_what_cannot_be_sent_is_refused(config, words):
    with pytest.raises(ValueError, match=words):
        from flask_doorward import Doorward

        Doorward(bare(**config))
