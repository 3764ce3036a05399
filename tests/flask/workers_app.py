"""The app that the tests of worker models serve: a plain set-up, and views that fork.

`general_api_version` to `JWT_SECRET_KEY` are the lines that a Flask app is asked to paste, with a key
that changes at every start and in every worker.
"""

import json
import multiprocessing
import os
import secrets
from datetime import timedelta

from flask import Flask, Response, request

from flask_doorward import Doorward, current_session

PASSWORD = "correct horse battery"
general_api_version = "v1"


def create_app() -> Flask:
    app = Flask(__name__, instance_path=os.environ["TEST_FOLDER"])
    app.config["JWT_COOKIE_SECURE"] = True
    app.config["JWT_TOKEN_LOCATION"] = ["cookies"]
    app.config["JWT_ACCESS_TOKEN_EXPIRES"] = timedelta(hours=1)
    app.config["JWT_ACCESS_COOKIE_PATH"] = f"/api/{general_api_version}"
    app.config["JWT_REFRESH_TOKEN_EXPIRES"] = timedelta(days=30)
    app.config["JWT_REFRESH_COOKIE_PATH"] = f"/api/{general_api_version}/refresh"
    app.config["JWT_COOKIE_CSRF_PROTECT"] = False
    app.config["JWT_SECRET_KEY"] = secrets.token_hex(16)
    app.config.update(json.loads(os.environ.get("TEST_SETTINGS", "{}")))
    auth = Doorward(app)

    @app.after_request
    def say_who_answers(response: Response) -> Response:
        response.headers["Worker"] = str(os.getpid())
        return response

    @app.get("/open")
    def open() -> dict[str, str]:
        return {}

    @app.get("/api/v1/who")
    @auth.required
    def who() -> dict[str, str]:
        return {"session": current_session.id}

    @app.post("/api/v1/fork")
    @auth.required
    def fork() -> dict[str, int]:
        child = os.fork()
        if child == 0:
            os._exit(served_by_a_child(app, request.headers["Cookie"]))
        return {"child": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}

    @app.post("/api/v1/process")
    @auth.required
    def process() -> dict[str, int | None]:
        child = multiprocessing.get_context("fork").Process(
            target=exits_with_service, args=(app, request.headers["Cookie"])
        )
        child.start()
        child.join()
        return {"child": child.exitcode}

    if os.environ.get("TEST_AT_IMPORT"):
        use_at_import(app, auth)
    return app


def served_by_a_child(app: Flask, cookie: str) -> int:
    """0 if the door works in this process: it verifies, opens a session, and ends it."""
    client = app.test_client(use_cookies=False)
    granted = client.post("/api/v1/login", json={"username": "ada", "password": PASSWORD})
    if granted.status_code != 200:
        print("a child's login:", granted.status_code, granted.text, flush=True)
        return 1
    theirs = "; ".join(line.split(";")[0] for line in granted.headers.getlist("Set-Cookie"))
    if client.get("/api/v1/who", headers={"Cookie": cookie}).status_code != 200:
        return 2
    if client.post("/api/v1/logout", headers={"Cookie": theirs}).status_code != 204:
        return 3
    return 0 if client.get("/api/v1/who", headers={"Cookie": theirs}).status_code == 401 else 4


def exits_with_service(app: Flask, cookie: str) -> None:
    # Of a thread's child multiprocessing says 1, however it ends by itself.
    os._exit(served_by_a_child(app, cookie))


def use_at_import(app: Flask, auth: Doorward) -> None:
    """Opens the store, its threads and locks, before there is any worker."""
    with app.app_context():
        auth.service.create_user("eve" + secrets.token_hex(4), PASSWORD)
        tokens = auth.service.login("made at import")
        auth.service.verify(tokens.access_token)
        auth.service.end_session(auth.service.login("made at import").session.id)
