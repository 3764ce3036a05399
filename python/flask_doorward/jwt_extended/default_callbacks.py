"""What happens where the app has set no callback of its own."""

from http import HTTPStatus
from typing import Any

from flask import jsonify
from flask.typing import ResponseReturnValue

from .config import config

_Claims = dict[str, Any]


def default_additional_claims_callback(userdata: Any) -> _Claims:
    return {}


def default_blocklist_callback(jwt_headers: _Claims, jwt_data: _Claims) -> bool:
    return False


def default_jwt_headers_callback(default_headers: Any) -> _Claims:
    return {}


def default_user_identity_callback(userdata: Any) -> Any:
    return userdata


def default_expired_token_callback(
    _expired_jwt_header: _Claims, _expired_jwt_data: _Claims
) -> ResponseReturnValue:
    return _refusal("Token has expired", HTTPStatus.UNAUTHORIZED)


def default_invalid_token_callback(error_string: str) -> ResponseReturnValue:
    return _refusal(error_string, HTTPStatus.UNPROCESSABLE_ENTITY)


def default_unauthorized_callback(error_string: str) -> ResponseReturnValue:
    return _refusal(error_string, HTTPStatus.UNAUTHORIZED)


def default_needs_fresh_token_callback(
    jwt_header: _Claims, jwt_data: _Claims
) -> ResponseReturnValue:
    return _refusal("Fresh token required", HTTPStatus.UNAUTHORIZED)


def default_revoked_token_callback(jwt_header: _Claims, jwt_data: _Claims) -> ResponseReturnValue:
    return _refusal("Token has been revoked", HTTPStatus.UNAUTHORIZED)


def default_user_lookup_error_callback(
    _jwt_header: _Claims, jwt_data: _Claims
) -> ResponseReturnValue:
    identity = jwt_data[config.identity_claim_key]
    return _refusal(f"Error loading the user {identity}", HTTPStatus.UNAUTHORIZED)


def default_token_verification_callback(_jwt_header: _Claims, _jwt_data: _Claims) -> bool:
    return True


def default_token_verification_failed_callback(
    _jwt_header: _Claims, _jwt_data: _Claims
) -> ResponseReturnValue:
    return _refusal("User claims verification failed", HTTPStatus.BAD_REQUEST)


def default_decode_key_callback(jwt_header: _Claims, jwt_data: _Claims) -> Any:
    return config.decode_key


def default_encode_key_callback(identity: Any) -> Any:
    return config.encode_key


def _refusal(text: str, status: HTTPStatus) -> ResponseReturnValue:
    return jsonify({config.error_msg_key: text}), status
