"""Notes: a small app with users of its own, and an API that Doorward guards."""

import secrets
from datetime import timedelta

import click
from flask import Blueprint, Flask, Response, abort, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, delete, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from flask_doorward import Doorward, current_user
from flask_doorward.errors import PasswordTooWeak

general_api_version = "v1"
root = f"/api/{general_api_version}"


class Model(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Model)
auth = Doorward(url_prefix=root)
api = Blueprint("api", __name__, url_prefix=root)
auth.protect(api)


def create_app() -> Flask:
    app = Flask(__name__)
    app.config["JWT_COOKIE_SECURE"] = True
    app.config["JWT_TOKEN_LOCATION"] = ["cookies"]
    app.config["JWT_ACCESS_TOKEN_EXPIRES"] = timedelta(hours=1)
    app.config["JWT_ACCESS_COOKIE_PATH"] = f"/api/{general_api_version}"
    app.config["JWT_REFRESH_TOKEN_EXPIRES"] = timedelta(days=30)
    app.config["JWT_REFRESH_COOKIE_PATH"] = f"/api/{general_api_version}/refresh"
    app.config["JWT_COOKIE_CSRF_PROTECT"] = False
    app.config["JWT_SECRET_KEY"] = secrets.token_hex(16)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///notes.db"
    app.config.from_prefixed_env()

    db.init_app(app)
    auth.init_app(app)
    app.register_blueprint(api)
    app.cli.add_command(add_user)
    app.add_url_rule("/", "page", lambda: app.send_static_file("index.html"))
    with app.app_context():
        db.create_all()
    return app


class User(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]


class Note(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id), index=True)
    text: Mapped[str]


# What Doorward asks about the app's users.


@auth.find_user
def find_user(name: str) -> tuple[int, str] | None:
    user = db.session.scalar(select(User).filter_by(name=name))
    return user and (user.id, user.password_hash)


@auth.find_user_by_id
def find_user_by_id(user_id: str) -> tuple[int, str] | None:
    user = load_user(user_id)
    return user and (user.id, user.password_hash)


@auth.save_password_hash
def save_password_hash(user_id: str, password_hash: str) -> None:
    db.session.get_one(User, int(user_id)).password_hash = password_hash
    db.session.commit()


@auth.user_loader
def load_user(user_id: str) -> User | None:
    return db.session.get(User, int(user_id))


@click.command("add-user")
@click.argument("name")
@click.password_option()
def add_user(name: str, password: str) -> None:
    """Adds a user."""
    try:
        password_hash = auth.service.hash_new_password(name, password)
    except PasswordTooWeak as error:
        raise click.ClickException(error.description or "") from None
    db.session.add(User(name=name, password_hash=password_hash))
    db.session.commit()


# The API. Every route of the blueprint asks for a session.


@api.get("/notes")
def notes() -> list[dict[str, object]]:
    mine = db.session.scalars(select(Note).filter_by(user_id=current_user.id).order_by(Note.id))
    return [{"id": note.id, "text": note.text} for note in mine]


@api.post("/notes")
def add_note() -> tuple[dict[str, object], int]:
    note = Note(user_id=current_user.id, text=str(request.get_json()["text"]))
    db.session.add(note)
    db.session.commit()
    return {"id": note.id, "text": note.text}, 201


@api.delete("/notes/<int:note_id>")
def delete_note(note_id: int) -> Response:
    note = db.session.get(Note, note_id)
    if note is None or note.user_id != current_user.id:
        abort(404)
    db.session.delete(note)
    db.session.commit()
    return Response(status=204)


@api.delete("/notes")
@auth.required(fresh=True)
def delete_all_notes() -> Response:
    db.session.execute(delete(Note).filter_by(user_id=current_user.id))
    db.session.commit()
    return Response(status=204)
