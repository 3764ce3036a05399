"""Tokens made and verified: the engine does both, this says what goes into them."""

from __future__ import annotations

import json
from calendar import timegm
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from json import JSONEncoder
from time import time
from typing import Any

from .._native import Jws, Rules, uuid4, uuid4s
from .cryptography_keys import text_of
from .token_errors import InvalidTokenError
from .typing import ExpiresDelta, Fresh

jws = Jws()
_UTC = timezone.utc
_CLAIMS = frozenset(("fresh", "iat", "jti", "type", "nbf", "csrf", "exp"))
_EPOCH = datetime(1970, 1, 1, tzinfo=_UTC)


def _encode_jwt(
    algorithm: str,
    audience: str | Iterable[str] | None,
    claim_overrides: dict[str, Any],
    csrf: bool,
    expires_delta: ExpiresDelta,
    fresh: Fresh,
    header_overrides: dict[str, Any],
    identity: Any,
    identity_claim_key: str,
    issuer: str | None,
    json_encoder: type[JSONEncoder],
    secret: Any,
    token_type: str,
    nbf: bool,
) -> str:
    now = datetime.now(_UTC)
    if now.tzinfo is None:
        now = now.replace(tzinfo=_UTC)  # By a clock that a test has put there.
    since = now - _EPOCH
    issued = since.days * 86400 + since.seconds
    key = secret if type(secret) is str else text_of(secret)
    if (
        type(fresh) is bool
        and type(expires_delta) is timedelta
        and expires_delta
        and not (claim_overrides or header_overrides or audience or issuer)
        and identity_claim_key not in _CLAIMS
    ):
        until = now + expires_delta - _EPOCH
        made = jws.issue(
            key, algorithm, fresh, issued, token_type, identity_claim_key, identity,
            until.days * 86400 + until.seconds, nbf, csrf,
        )  # fmt: skip
        if made is not None:
            return made
    jti, double_submit = uuid4s() if csrf else (uuid4(), None)
    claims: dict[str, Any] = {
        "fresh": (now + fresh).timestamp() if isinstance(fresh, timedelta) else fresh,
        "iat": issued,
        "jti": jti,
        "type": token_type,
        identity_claim_key: identity,
    }
    if nbf:
        claims["nbf"] = issued
    if double_submit:
        claims["csrf"] = double_submit
    if audience:
        claims["aud"] = audience
    if issuer:
        claims["iss"] = issuer
    if expires_delta:
        if type(expires_delta) is timedelta and not expires_delta.microseconds:
            claims["exp"] = issued + expires_delta.days * 86400 + expires_delta.seconds
        else:
            until = now + expires_delta - _EPOCH
            claims["exp"] = until.days * 86400 + until.seconds
    if claim_overrides:
        claims |= claim_overrides
        _use_numbers_for_times(claims)
    if "iss" in claims and not isinstance(claims["iss"], str):
        raise TypeError("Issuer (iss) must be a string.")
    header = None
    if header_overrides:
        algorithm = header_overrides.get("alg") or algorithm
        header = _header(algorithm, header_overrides, json_encoder)
    return jws.sign(claims, key, algorithm, header, json_encoder)


def _use_numbers_for_times(claims: dict[str, Any]) -> None:
    for name in ("exp", "iat", "nbf"):
        if hasattr(claims.get(name), "utctimetuple"):
            claims[name] = timegm(claims[name].utctimetuple())


def _header(algorithm: str, overrides: dict[str, Any], encoder: type[JSONEncoder]) -> bytes:
    fields = {"typ": "JWT", **overrides, "alg": algorithm}
    if not isinstance(fields.get("kid", ""), str):
        raise InvalidTokenError("Key ID header parameter must be a string")
    if not fields.pop("b64", True):
        raise InvalidTokenError("A token with a detached payload is no JWT")
    if not fields["typ"]:
        del fields["typ"]
    return json.dumps(fields, separators=(",", ":"), cls=encoder, sort_keys=True).encode()


def _decode_jwt(
    algorithms: list[str],
    allow_expired: bool,
    audience: str | Iterable[str] | None,
    csrf_value: str | None,
    encoded_token: str,
    identity_claim_key: str,
    issuer: str | Iterable[str] | None,
    leeway: float | timedelta,
    secret: Any,
    verify_aud: bool,
    verify_sub: bool,
) -> dict[str, Any]:
    rules = rules_of(
        algorithms, audience if verify_aud else None, issuer, leeway, verify_sub, identity_claim_key
    )
    key = text_of(secret)
    token = jws.verify(encoded_token, key, rules, time(), csrf_value or None, allow_expired)
    return token.payload


def rules_of(
    algorithms: list[str],
    audience: str | Iterable[str] | None,
    issuer: str | Iterable[str] | None,
    leeway: float | timedelta,
    verify_sub: bool,
    identity_claim: str,
) -> Rules:
    """The rules of these settings."""
    seconds = leeway.total_seconds() if isinstance(leeway, timedelta) else leeway
    return Rules(
        algorithms, _texts(audience), _texts(issuer), seconds, bool(verify_sub), identity_claim
    )


def _texts(one_or_more: str | Iterable[str] | None) -> list[str] | None:
    if one_or_more is None:
        return None
    return [one_or_more] if isinstance(one_or_more, str) else list(one_or_more)
