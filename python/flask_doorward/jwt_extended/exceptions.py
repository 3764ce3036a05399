"""What a request is refused with. What is wrong with a token itself is in `token_errors`."""

from typing import Any


class JWTExtendedException(Exception):
    """Any refusal of this extension."""


class JWTDecodeError(JWTExtendedException):
    """The token lacks a claim that this extension needs."""


class InvalidHeaderError(JWTExtendedException):
    """The request header with the token is malformed."""


class InvalidQueryParamError(JWTExtendedException):
    """The query parameter with the token lacks its prefix."""


class NoAuthorizationError(JWTExtendedException):
    """The request has no token where one is needed."""


class CSRFError(JWTExtendedException):
    """The double-submit value is missing, or is not the token's."""


class WrongTokenError(JWTExtendedException):
    """A refresh token where an access token is needed, or the other way round."""


class RevokedTokenError(JWTExtendedException):
    """The token has been revoked."""

    def __init__(self, jwt_header: dict[str, Any], jwt_data: dict[str, Any]) -> None:
        super().__init__("Token has been revoked")
        self.jwt_header = jwt_header
        self.jwt_data = jwt_data


class _TokenRefused(JWTExtendedException):
    """A good token, refused for what it says."""

    def __init__(self, message: str, jwt_header: dict[str, Any], jwt_data: dict[str, Any]) -> None:
        super().__init__(message)
        self.jwt_header = jwt_header
        self.jwt_data = jwt_data


class FreshTokenRequired(_TokenRefused):
    """The token is not fresh, or not any more."""


class UserLookupError(_TokenRefused):
    """The user lookup found nobody for the token."""


class UserClaimsVerificationError(_TokenRefused):
    """The app's own verification refused the claims."""
