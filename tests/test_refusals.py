"""Start-up refuses secrets, files and settings that are never safe, in words that say what to do; what may
be right it points out."""

import os
import pathlib
import subprocess

import pytest

from conftest import BINARY, CHEAP, ENVIRONMENT, command

ONE = "7f0c3a9e51d24b86a1c9e3f05b7d2846"
OTHER = "b1946ac92492d2347c6235b4d2611184"
PRINTED = "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7"
#: RFC 8037, A.1, and jwt.io's for ES256.
RFC_8037 = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g"
JWT_IO = ("MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2OF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz"
          "+jn65BtOMvdyHKcvjBeBSDZH2r1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G")
ROOT = os.geteuid() == 0


def refusal(directory: pathlib.Path, *flags: str) -> str:
    """By `serve` and by `check-config`, in the same words."""
    listen = [] if "--listen" in flags else ["--listen", "127.0.0.1:0"]
    operator = [] if "--operator-listen" in flags else ["--operator-listen", "off"]
    served = command(directory, "serve", *listen, *operator, *flags)
    checked = command(directory, "check-config", *flags)
    assert (served.returncode, checked.returncode) == (1, 1), (served, checked)
    assert served.stderr == checked.stderr
    assert not (directory / "doorward.db").exists()
    return served.stderr


def accepted(directory: pathlib.Path, *flags: str) -> str:
    checked = command(directory, "check-config", *flags)
    assert checked.returncode == 0, checked.stderr
    # The costs of the tests are pointed out too.
    lines = checked.stderr.splitlines(keepends=True)
    return "".join(line for line in lines if "password_memory_kib" not in line)


def generated(path: pathlib.Path, algorithm: str = "ed25519") -> pathlib.Path:
    subprocess.run(["openssl", "genpkey", "-algorithm", algorithm, "-out", path], check=True)
    path.chmod(0o600)
    return path


def pem(path: pathlib.Path, base64: str) -> pathlib.Path:
    path.write_text(f"-----BEGIN PRIVATE KEY-----\n{base64}\n-----END PRIVATE KEY-----\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("key", ["secret", "seal_secret"])
@pytest.mark.parametrize(("value", "words"), [
    ("", "openssl rand -hex 32"),
    ("hush-hush", "shorter than 32 bytes; make one with: openssl rand -hex 32"),
    ("x" * 40, "openssl rand -hex 32"),
    ("changeme" * 8, "openssl rand -hex 32"),
    ("a-string-secret-at-least-256-bits-long", "openssl rand -hex 32"),
    ("qwertyuiopasdfghjklzxcvbnm123456", "openssl rand -hex 32"),
    (PRINTED, "openssl rand -hex 32"),
    (PRINTED.upper(), "openssl rand -hex 32"),
])
def test_a_weak_secret_is_refused(tmp_path: pathlib.Path, key: str, value: str, words: str) -> None:
    said = refusal(tmp_path, f"--{key.replace('_', '-')}={value}")
    assert said.startswith(f"doorward: {key}: ") and words in said
    assert not value or value not in said


@pytest.mark.parametrize(("flags", "words"), [
    (["--secret", ONE, "--seal-secret", ONE], "seal_secret: must differ from secret"),
    (["--seal-secret", ONE, "--seal-secret-previous", ONE], "seal_secret_previous must differ from seal_secret"),
    (["--seal-secret", ONE, "--seal-secret-previous", f"{OTHER},{ONE}"], "must differ from seal_secret"),
    (["--secret", ONE, "--seal-secret", OTHER, "--seal-secret-previous", ONE], "must differ from secret"),
    (["--seal-secret-previous", ONE], "seal_secret_previous is set without seal_secret"),
    (["--seal-secret", ONE, "--seal-secret-previous", ""], "seal_secret_previous: is empty"),
    (["--secret", ONE, "--algorithm", "EdDSA"], "secret: is for HS256"),
    (["--secret", ONE, "--private-key-file", "key.pem"], "secret: is for HS256"),
    (["--algorithm", "HS256", "--private-key-file", "key.pem"], "HS256 takes a secret instead"),
    (["--algorithm", "none"], "algorithm: "),
    (["--algorithm", "ES256", "--private-key-file", "key.pem"], "private_key_file: the private key is not PKCS#8 of"),
])
def test_secrets_that_do_not_go_together_are_refused(tmp_path: pathlib.Path, flags: list[str], words: str) -> None:
    generated(tmp_path / "key.pem")
    said = refusal(tmp_path, *flags)
    assert words in said and ONE not in said and OTHER not in said


@pytest.mark.parametrize(("base64", "algorithm"), [(RFC_8037, "EdDSA"), (JWT_IO, "ES256")])
def test_a_private_key_that_everybody_knows_is_refused(tmp_path: pathlib.Path, base64: str, algorithm: str) -> None:
    key = pem(tmp_path / "key.pem", base64)
    said = refusal(tmp_path, "--private-key-file", str(key), "--algorithm", algorithm)
    assert "everybody knows it; make one with: openssl genpkey" in said


OPEN = [0o644, 0o604, 0o666, 0o602, 0o660, *([] if ROOT else [0o640])]


def files(directory: pathlib.Path, kind: str) -> tuple[pathlib.Path, list[str]]:
    """A file of each kind that holds a secret, and the flags that name it."""
    if kind == "config":
        path = directory / "doorward.toml"
        path.write_text(f'seal_secret = "{ONE}"\n')
        path.chmod(0o600)
        return path, ["--config", str(path)]
    path = generated(directory / "key.pem")
    if kind == "private":
        return path, ["--private-key-file", str(path)]
    cert = directory / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-key", path, "-subj", "/CN=localhost", "-out", cert], check=True)
    return path, ["--tls-cert-file", str(cert), "--tls-key-file", str(path)]


KINDS = ["config", "private", "tls"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_a_secret_is_its_owners_alone(tmp_path: pathlib.Path, kind: str) -> None:
    path, flags = files(tmp_path, kind)
    for mode in (0o600, 0o400):
        path.chmod(mode)
        accepted(tmp_path, *flags)
    for mode in OPEN:
        path.chmod(mode)
        said = refusal(tmp_path, *flags)
        assert f"(mode {mode:03o}): chmod 600" in said and path.name in said


@pytest.mark.parametrize(
    "setting",
    [
        f'secret = "{ONE}"',
        f'seal_secret_previous = "{ONE}"',
        f'adopt_secret = "{ONE}"',
        'webhook_secrets = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"',
    ],
)
def test_each_secret_makes_the_file_of_settings_one(tmp_path: pathlib.Path, setting: str) -> None:
    path = tmp_path / "doorward.toml"
    path.write_text(setting + "\n")
    path.chmod(0o644)
    assert "holds a secret" in refusal(tmp_path, "--config", str(path))


def test_a_file_of_settings_without_a_secret_may_be_read_by_all(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "doorward.toml"
    path.write_text('access_ttl = "5m"\n')
    path.chmod(0o644)
    accepted(tmp_path, "--config", str(path))


@pytest.mark.parametrize("kind", KINDS)
def test_a_link_is_followed_to_a_file_that_is_checked(tmp_path: pathlib.Path, kind: str) -> None:
    path, flags = files(tmp_path, kind)
    moved = tmp_path / "elsewhere" / path.name
    moved.parent.mkdir()
    path.rename(moved)
    path.symlink_to(moved)
    accepted(tmp_path, *flags)
    moved.chmod(0o644)
    assert "chmod 600" in refusal(tmp_path, *flags)
    moved.chmod(0o600)
    moved.parent.chmod(0o777)
    assert "everybody may put another in its place" in refusal(tmp_path, *flags)
    moved.parent.chmod(0o1777)
    accepted(tmp_path, *flags)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_others_may_replace_is_refused(tmp_path: pathlib.Path, kind: str) -> None:
    path, flags = files(tmp_path, kind)
    tmp_path.chmod(0o777)
    assert "everybody may put another in its place" in refusal(tmp_path, *flags)
    tmp_path.chmod(0o700)
    if not ROOT:
        return
    os.chown(path, 65534, 65534)
    assert "belongs to another user" in refusal(tmp_path, *flags)
    os.chown(path, 0, 0)
    real = path.rename(tmp_path / "real")
    path.symlink_to(real)
    os.chown(path, 65534, 65534, follow_symlinks=False)
    assert "a link of another user" in refusal(tmp_path, *flags)


@pytest.mark.parametrize("flag", ["--config", "--private-key-file"])
def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path: pathlib.Path, flag: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "/dev/zero", "."):
        assert "no regular file" in refusal(tmp_path, flag, name)
    assert "No such file" in refusal(tmp_path, flag, "nowhere")


def test_one_key_does_not_sign_and_speak_tls(tmp_path: pathlib.Path) -> None:
    path, flags = files(tmp_path, "tls")
    said = refusal(tmp_path, *flags, "--private-key-file", str(path))
    assert "tls_key_file: must differ from private_key_file" in said


TLS = ["--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem"]


@pytest.mark.parametrize(("flags", "words"), [
    (["--cookie-secure", "false", "--listen", "0.0.0.0:0"], "cookie_secure: is off, so that browsers send"),
    (["--cookie-secure", "false", "--listen", "[::]:0"], "cookie_secure: is off"),
    (["--cookie-secure", "false", "--listen", "192.0.2.1:80"], "switch it on"),
    (["--cookie-secure", "false", *TLS], "cookie_secure: is off"),
    (["--allowed-origins", "*"], "allowed_origins must look like https://app.example"),
    (["--allowed-origins", "null"], "allowed_origins must look like https://app.example"),
    (["--allowed-origins", "https://*.app.example"], "allowed_origins must look like"),
    (["--allowed-origins", "https://app.example,http://app.example"], "allowed_origins must begin with https://"),
    (["--trusted-proxies", "0.0.0.0/0"], "settings: trusted_proxies must name the proxies alone"),
    (["--trusted-proxies", "10.0.0.1,::/0"], "trusted_proxies must name the proxies alone"),
    (["--trusted-proxies", "0.0.0.0/1,128.0.0.0/1"], "trusted_proxies must name the proxies alone"),
    (["--access-ttl", "25h"], "access_ttl must lie between 1s and 24h"),
    (["--session-ttl", "4000d"], "session_ttl must be at most ten years"),
    (["--tls-cert-file", "cert.pem"], "tls_cert_file: and tls_key_file go together"),
])
def test_what_is_never_safe_is_refused(tmp_path: pathlib.Path, flags: list[str], words: str) -> None:
    files(tmp_path, "tls")
    assert words in refusal(tmp_path, *flags)


@pytest.mark.parametrize(("flags", "words"), [
    (["--cookie-secure", "false"], "cookie_secure is off"),
    (["--access-ttl", "2h"], "access_ttl is longer than an hour"),
    (["--operator-listen", "0.0.0.0:0"], "operator_listen is an address that others may reach"),
    (["--operator-listen", "192.0.2.1:9080"], "operator_listen is an address that others may reach"),
])
def test_what_may_be_right_is_pointed_out(tmp_path: pathlib.Path, flags: list[str], words: str) -> None:
    assert words in accepted(tmp_path, *flags)


@pytest.mark.parametrize("flags", [
    [], ["--cookie-secure", "false", "--delivery", "body", "--listen", "0.0.0.0:0"],
    ["--operator-listen", "10.1.2.3:9080"], ["--trusted-proxies", "10.0.0.0/8,fc00::/7,127.0.0.1"],
    ["--allowed-origins", "https://app.example,http://localhost:5173,http://127.0.0.1:3000"],
])
def test_what_is_right_is_not(tmp_path: pathlib.Path, flags: list[str]) -> None:
    assert accepted(tmp_path, *flags) == ""


def test_the_log_has_it_too(start) -> None:
    server = start("--cookie-secure", "false", "--access-ttl", "2h")
    assert "cookie_secure is off" in server.logged() and "access_ttl is longer" in server.logged()


def test_a_secret_in_the_environment_is_checked_alike(tmp_path: pathlib.Path) -> None:
    environment = {**ENVIRONMENT, "DOORWARD_SECRET": ONE, "DOORWARD_SEAL_SECRET": ONE}
    refused = subprocess.run([BINARY, "check-config", *CHEAP], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert refused.returncode == 1 and "must differ from secret" in refused.stderr


def test_a_database_that_others_could_read_is_narrowed(tmp_path: pathlib.Path) -> None:
    added = command(tmp_path, "user", "add", "ada", "--password-stdin", text="correct horse battery\n")
    assert added.returncode == 0, added.stderr
    database = tmp_path / "doorward.db"
    database.chmod(0o644)
    assert command(tmp_path, "user", "list").returncode == 0
    assert database.stat().st_mode & 0o777 == 0o600
