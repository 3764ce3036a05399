"""The wheel in an environment of its own: nothing that the tests need is needed by the package."""

import pathlib
import subprocess
import sys
import venv

import pytest

WHEELS = pathlib.Path(__file__).resolve().parents[2] / "target/wheels"
APP = """
from flask import Flask
from flask_doorward import Doorward, current_session
from flask_doorward.jwt_extended import JWTManager, create_access_token, jwt_required

app = Flask(__name__)
app.config["JWT_SECRET_KEY"] = "5f1c0fb8a7d04b8ee2bd53ab1c3e6a94"
auth = Doorward(app)
JWTManager(app)

@app.get("/api/v1/hello")
@auth.required
def hello():
    return {"hello": current_session.user_id}

@app.get("/old")
@jwt_required()
def old():
    return {}

client = app.test_client()
with app.app_context():
    tokens = auth.service.login("ada", delivery="body")
    token = create_access_token("ada")
assert client.get("/api/v1/hello").status_code == 401
bearer = {"Authorization": f"Bearer {tokens.access_token}"}
assert client.get("/api/v1/hello", headers=bearer).json == {"hello": "ada"}
assert client.get("/old", headers={"Authorization": f"Bearer {token}"}).status_code == 200
print("works")
"""


#: The newest releases that pip finds, and the oldest that the package allows.
BESIDE = {"newest": [], "oldest": ["Flask==2.3.0", "Werkzeug==2.3.0"]}


@pytest.fixture(scope="module", params=BESIDE.values(), ids=BESIDE.keys())
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    (wheel,) = WHEELS.glob("flask_doorward-*-cp310-abi3-*.whl")
    python = folder / "bin/python"
    install = [python, "-m", "pip", "install", "-q", wheel, *request.param]
    subprocess.run(install, check=True, timeout=300)
    return python


def test_an_app_works_with_nothing_but_the_wheel_and_flask(
    python: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "app.py").write_text(APP)
    done = subprocess.run([python, "app.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == "works\n", done.stderr


def test_the_wheel_carries_its_types_and_licences(python: pathlib.Path) -> None:
    listed = subprocess.run(
        [python, "-m", "pip", "show", "--files", "Flask-Doorward"], capture_output=True, text=True, check=True
    ).stdout
    for name in ["py.typed", "_native.pyi", "LICENSE-MIT", "LICENSE-APACHE"]:
        assert name in listed
    assert "requires: flask, werkzeug\n" in listed.lower()
