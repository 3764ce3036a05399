"""What is wrong with a token: PyJWT's own exceptions where it is there, since apps catch those."""

from .exceptions import CSRFError as CSRFError
from .exceptions import JWTDecodeError as JWTDecodeError

try:
    from jwt.exceptions import DecodeError as DecodeError
    from jwt.exceptions import ExpiredSignatureError as ExpiredSignatureError
    from jwt.exceptions import ImmatureSignatureError as ImmatureSignatureError
    from jwt.exceptions import InvalidAlgorithmError as InvalidAlgorithmError
    from jwt.exceptions import InvalidAudienceError as InvalidAudienceError
    from jwt.exceptions import InvalidIssuedAtError as InvalidIssuedAtError
    from jwt.exceptions import InvalidIssuerError as InvalidIssuerError
    from jwt.exceptions import InvalidKeyError as InvalidKeyError
    from jwt.exceptions import InvalidSignatureError as InvalidSignatureError
    from jwt.exceptions import InvalidTokenError as InvalidTokenError
    from jwt.exceptions import MissingRequiredClaimError as MissingRequiredClaimError
    from jwt.exceptions import PyJWTError as PyJWTError
except ImportError:

    class PyJWTError(Exception):  # type: ignore[no-redef]
        """Anything that is wrong with a token or a key."""

    class InvalidTokenError(PyJWTError):  # type: ignore[no-redef]
        """The token is refused."""

    class DecodeError(InvalidTokenError):  # type: ignore[no-redef]
        """The token is malformed."""

    class InvalidSignatureError(DecodeError):  # type: ignore[no-redef]
        """The signature is not the key's."""

    class ExpiredSignatureError(InvalidTokenError):  # type: ignore[no-redef]
        """The token's time is over."""

    class InvalidAudienceError(InvalidTokenError):  # type: ignore[no-redef]
        """The token is for somebody else."""

    class InvalidIssuerError(InvalidTokenError):  # type: ignore[no-redef]
        """The token is by somebody else."""

    class InvalidIssuedAtError(InvalidTokenError):  # type: ignore[no-redef]
        """`iat` is no number."""

    class ImmatureSignatureError(InvalidTokenError):  # type: ignore[no-redef]
        """The token's time has not come."""

    class InvalidKeyError(PyJWTError):  # type: ignore[no-redef]
        """The key does not fit the algorithm."""

    class InvalidAlgorithmError(InvalidTokenError):  # type: ignore[no-redef]
        """The token's algorithm is not allowed."""

    class MissingRequiredClaimError(InvalidTokenError):  # type: ignore[no-redef]
        """The token lacks a claim."""

        def __init__(self, claim: str) -> None:
            self.claim = claim

        def __str__(self) -> str:
            return f'Token is missing the "{self.claim}" claim'


try:
    # PyJWT has them since 2.10.
    from jwt.exceptions import InvalidJTIError as InvalidJTIError
    from jwt.exceptions import InvalidSubjectError as InvalidSubjectError
except ImportError:

    class InvalidSubjectError(InvalidTokenError):  # type: ignore[no-redef]
        """`sub` is no text."""

    class InvalidJTIError(InvalidTokenError):  # type: ignore[no-redef]
        """`jti` is no text."""
