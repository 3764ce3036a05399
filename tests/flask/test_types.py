"""The types: what Python says of itself, and what the stub says of the native module."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def checked(*command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_is_typed_strictly() -> None:
    checked("mypy", "python/flask_doorward")


def test_the_stub_says_what_the_native_module_has() -> None:
    checked("mypy.stubtest", "flask_doorward._native")
