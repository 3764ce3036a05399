"""What can be imported: every name of the original, with its arguments; what need not be there."""

import importlib
import inspect
import json
import subprocess
import sys
from typing import Any

import pytest
from flask import Flask
from twins import OURS, THEIRS

MODULES = [
    "",
    ".config",
    ".default_callbacks",
    ".exceptions",
    ".internal_utils",
    ".jwt_manager",
    ".tokens",
    ".typing",
    ".utils",
    ".view_decorators",
]


def own(module: Any) -> dict[str, Any]:
    """What a module defines, or in case of the package, shows."""

    def is_own(value: Any) -> bool:
        return module.__name__ in (THEIRS, getattr(value, "__module__", None))

    return {name: value for name, value in vars(module).items() if is_own(value)}


@pytest.mark.parametrize("name", MODULES)
def test_every_name_is_there_with_its_arguments(name: str) -> None:
    theirs, ours = importlib.import_module(THEIRS + name), importlib.import_module(OURS + name)
    for member, value in own(theirs).items():
        if member.startswith("__") or inspect.ismodule(value):
            continue
        assert hasattr(ours, member), member
        if inspect.isfunction(value):
            assert parameters(getattr(ours, member)) == parameters(value), member


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    found = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, each.default) for each in found]


def test_the_manager_has_the_methods_and_callbacks() -> None:
    theirs, ours = (importlib.import_module(name).JWTManager for name in (THEIRS, OURS))
    for name, value in vars(theirs).items():
        if inspect.isfunction(value):
            assert parameters(getattr(ours, name)) == parameters(value), name
    assert set(vars(theirs())) <= set(vars(ours()))


def test_the_settings_and_their_defaults_are_the_same() -> None:
    apps = []
    for name in (OURS, THEIRS):
        app = Flask(__name__)
        app.config["JWT_SECRET_KEY"] = "x"
        manager = importlib.import_module(name).JWTManager(app)
        assert app.extensions["flask-jwt-extended"] is manager
        apps.append(app)
    ours, theirs = ({k: v for k, v in app.config.items() if k.startswith("JWT_")} for app in apps)
    assert ours == theirs and len(ours) == 43
    configs = [importlib.import_module(name + ".config").config for name in (OURS, THEIRS)]
    for name in dir(configs[1]):
        if not name.startswith("__") and name != "json_encoder":
            pairs = zip(apps, configs, strict=True)
            our, their = (setting(app, config, name) for app, config in pairs)
            assert our == their, name


def setting(app: Flask, config: Any, name: str) -> Any:
    with app.app_context():
        try:
            return getattr(config, name)
        except RuntimeError as error:
            return str(error)


WITHOUT = """
import json, sys
for name in ("jwt", "flask_jwt_extended", "cryptography"):
    sys.modules[name] = None
from flask import Flask
from flask_doorward.jwt_extended import *
import flask_doorward.jwt_extended as ours
from flask_doorward.jwt_extended import token_errors as errors
app = Flask("x")
app.config["JWT_SECRET_KEY"] = "b9a1d5f3c7e84b60a2d4f6081c3e5a79"
ours.JWTManager(app)
app.add_url_rule("/", view_func=ours.jwt_required()(lambda: ours.get_jwt_identity()))
with app.app_context():
    token = ours.create_access_token("ada")
told = []
for value in (token, token + "x", "x", "x.y.z"):
    answer = app.test_client().get("/", headers={"Authorization": f"Bearer {value}"})
    told.append([answer.status_code, answer.text.strip()])
for claims in ({"exp": 1}, {"sub": 7}, {"jti": 7}, {"iat": "x"}):
    with app.app_context():
        token = ours.create_access_token("ada", additional_claims=claims)
    answer = app.test_client().get("/", headers={"Authorization": f"Bearer {token}"})
    told.append([answer.status_code, answer.text.strip()])
parent = errors.InvalidSignatureError.__mro__[1].__name__
tree = [parent, str(errors.MissingRequiredClaimError("aud"))]
print(json.dumps([told, tree]))
"""


def test_neither_pyjwt_nor_cryptography_is_needed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True
    )
    told, tree = json.loads(done.stdout)
    assert told == [
        [200, "ada"],
        [422, '{"msg":"Signature verification failed"}'],
        [422, '{"msg":"Not enough segments"}'],
        [422, '{"msg":"Invalid header padding"}'],
        [401, '{"msg":"Token has expired"}'],
        [422, '{"msg":"Subject must be a string"}'],
        [422, '{"msg":"JWT ID must be a string"}'],
        [422, '{"msg":"Issued At claim (iat) must be an integer."}'],
    ]
    assert tree == ["DecodeError", 'Token is missing the "aud" claim']


SHORT = """
import sys
sys.modules["cryptography"] = sys.modules["jwt"] = None
from flask import Flask
import flask_doorward.jwt_extended as ours
app = Flask("x")
app.config.update(JWT_ALGORITHM="RS256", JWT_PRIVATE_KEY=sys.stdin.read())
ours.JWTManager(app)
with app.app_context():
    try:
        ours.create_access_token("ada")
    except ours.token_errors.InvalidKeyError as error:
        print(error)
"""


def test_a_short_rsa_key_without_cryptography_is_refused_in_words() -> None:
    made = subprocess.run(["openssl", "genrsa", "1024"], capture_output=True, text=True, check=True)
    code = SHORT.replace(
        "import flask_doorward.jwt_extended as ours",
        "import flask_doorward.jwt_extended as ours, flask_doorward.jwt_extended.token_errors",
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=made.stdout, capture_output=True, text=True, check=True
    )
    assert "2,048 bits" in done.stdout
