"""What needs the `cryptography` package, where the app has it: its key objects, public keys in the
form of SSH, and RSA keys under 2,048 bits, which the engine refuses to sign with."""

from __future__ import annotations

from typing import Any

from .token_errors import InvalidKeyError


def text_of(key: Any) -> str | bytes:
    """A key as the engine reads it: objects of `cryptography` and of PyJWT become PEM."""
    if isinstance(key, str):
        return _of_ssh(key, key.encode()) if key.startswith(_SSH) else key
    if isinstance(key, bytes):
        return _of_ssh(key, key) if key.startswith(_SSH_BYTES) else key
    key = getattr(key, "key", key)
    if hasattr(key, "private_bytes"):
        from cryptography.hazmat.primitives import serialization as forms

        pem: bytes = key.private_bytes(
            forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption()
        )
        return pem
    if hasattr(key, "public_bytes"):
        from cryptography.hazmat.primitives import serialization as forms

        pem = key.public_bytes(forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo)
        return pem
    return key  # type: ignore[no-any-return]


_SSH = ("ssh-", "ecdsa-sha2-")
_SSH_BYTES = tuple(prefix.encode() for prefix in _SSH)


def _of_ssh(key: str | bytes, line: bytes) -> str | bytes:
    """In PEM. A secret that begins alike stays as it is."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_ssh_public_key
    except ImportError:
        return key
    try:
        return text_of(load_ssh_public_key(line))
    except (ValueError, UnsupportedAlgorithm):
        return key


def sign(key: str | bytes, algorithm: str, signed: bytes) -> bytes:
    """The signature of a short RSA key."""
    private = _load(key, private=True)
    made: bytes = private.sign(signed, *_scheme(algorithm))
    return made


def verify(key: str | bytes, algorithm: str, signed: bytes, signature: bytes) -> bool:
    """Whether a signature is that of a short RSA key."""
    public = _load(key, private=False)
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(signature, signed, *_scheme(algorithm))
    except InvalidSignature:
        return False
    return True


def _load(key: str | bytes, private: bool) -> Any:
    pem = key.encode() if isinstance(key, str) else key
    try:
        from cryptography.hazmat.primitives.serialization import (
            load_pem_private_key,
            load_pem_public_key,
        )
    except ImportError:
        raise InvalidKeyError(
            "An RSA key under 2,048 bits needs the cryptography package; better, make a longer key."
        ) from None
    if private:
        return load_pem_private_key(pem, None)
    if b"PRIVATE KEY-----" in pem:
        return load_pem_private_key(pem, None).public_key()
    return load_pem_public_key(pem)


def _scheme(algorithm: str) -> tuple[Any, Any]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    sha = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[algorithm[2:]]
    if algorithm.startswith("PS"):
        return padding.PSS(padding.MGF1(sha), sha.digest_size), sha
    return padding.PKCS1v15(), sha
