"""Keys in a PKCS#11 token: a real SoftHSM2 token, made here."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from printsvc.credential.dsc import read_dsc
from printsvc.credential.keys import Algorithm, Signer, make_csca, make_dsc, make_private_key
from printsvc.credential.trust import make_trust_list
from printsvc.credential.verify import verify
from printsvc.errors import SignerError, SigningError
from printsvc.flows.keystores import TokenKeys
from printsvc.flows.signers import FollowedSigners
from printsvc.store.token import Token

NOW = datetime(2021, 10, 30, 2, 12, tzinfo=UTC)
MODULES = [Path("/usr/lib/softhsm/libsofthsm2.so"), *Path("/usr/lib").glob("*/softhsm/libsofthsm2.so")]
PIN = "1234"
serials = itertools.count(1)
ids = itertools.count(1)


@pytest.fixture(scope="session")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The module of SoftHSM, which reads where its tokens are when it is first loaded: one folder for all tests."""
    found = [path for path in MODULES if path.exists()]
    if not found:
        pytest.fail("SoftHSM2 is not installed: run script/setup", pytrace=False)
    folder = tmp_path_factory.mktemp("softhsm")
    configuration = folder / "softhsm2.conf"
    (folder / "tokens").mkdir()
    configuration.write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    initialise("printsvc")
    yield found[0]
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


def initialise(label: str) -> None:
    command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "5678"]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def token(module: Path) -> Token:
    return Token(module, "printsvc", lambda: PIN)


@pytest.fixture
def keys(token: Token) -> TokenKeys:
    return TokenKeys(token)


def certify(keys: TokenKeys, algorithm: Algorithm = Algorithm.ES256) -> bytes:
    """Make a key in the token and keep its DSC beside it."""
    csca_key = make_private_key()
    csca = make_csca(csca_key, country="VN", organisation="MOH", common_name="CSCA", serial=next(serials), now=NOW)
    new = keys.make_key(algorithm)
    names = {"organisation": "MOH", "common_name": "DSC in a token"}
    dsc = make_dsc(new.public_key, csca=csca, csca_key=csca_key, serial=next(serials), now=NOW, **names)
    new.keep(dsc)
    return dsc


def check(signer: Signer, signature: bytes, data: bytes) -> None:
    """Verify with somebody else's code. Raises InvalidSignature."""
    public: Any = read_dsc(signer.certificate).public_key
    if signer.algorithm is Algorithm.ES256:
        assert len(signature) == 64
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        public.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
    else:
        public.verify(signature, data, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())


@pytest.mark.parametrize("algorithm", [Algorithm.ES256, Algorithm.PS256])
def test_a_key_in_the_token_signs_and_never_leaves_it(keys: TokenKeys, algorithm: Algorithm, module: Path) -> None:
    certificate = certify(keys, algorithm)
    assert certificate in keys.kept()
    signer = TokenKeys(Token(module, "printsvc", lambda: PIN)).open(certificate)  # as another process would
    assert (signer.algorithm, signer.kid) == (algorithm, read_dsc(certificate).kid)
    check(signer, signer.sign(b"data"), b"data")
    import pkcs11

    with contextlib.closing(pkcs11.lib(str(module)).get_token(token_label="printsvc").open()) as session:
        wanted = {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY}
        for key in session.get_objects(wanted):
            assert key[pkcs11.Attribute.SENSITIVE] is True
            assert key[pkcs11.Attribute.EXTRACTABLE] is False


def test_a_key_that_a_kill_left_without_certificate_is_used_not_made_again(keys: TokenKeys, token: Token) -> None:
    left = keys.make_key(Algorithm.ES256)
    before = len(token.list_keys())
    again = keys.make_key(Algorithm.ES256)
    assert again.public_key.public_numbers() == left.public_key.public_numbers()
    assert len(token.list_keys()) == before
    certify(keys)
    assert keys.make_key(Algorithm.ES256).public_key.public_numbers() != left.public_key.public_numbers()


def test_many_threads_sign_at_once(keys: TokenKeys) -> None:
    signer = keys.open(certify(keys))
    with ThreadPoolExecutor(12) as pool:
        for data, signature in pool.map(lambda n: (b"%d" % n, signer.sign(b"%d" % n)), range(120)):
            check(signer, signature, data)


def test_what_is_not_there_is_said(keys: TokenKeys, module: Path, tmp_path: Path, signer: Any) -> None:
    with pytest.raises(SigningError) as missing:
        keys.open(signer.certificate)
    assert missing.value.code == "key_missing"
    assert missing.value.vi != missing.value.en
    for other in (
        Token(module, "no such token", lambda: PIN),
        Token(tmp_path / "no-such-module.so", "printsvc", lambda: PIN),
    ):
        with pytest.raises(SignerError) as away:
            other.list_keys()
        assert away.value.retry_after_s == 30
        assert PIN not in away.value.en


WRONG_PIN = """
import sys
from pathlib import Path
from printsvc.errors import SignerError
from printsvc.store.token import Token
try:
    Token(Path(sys.argv[1]), "printsvc", lambda: "9999").list_keys()
except SignerError as error:
    print(error.en)
"""

LOCKING_OUT = """
import sys
from pathlib import Path
import pkcs11
from printsvc.errors import SignerError
from printsvc.store.token import Token
tried, told = [], []
pins = ["9999", "9999", "9999", "1234"]
class Counted:
    def __init__(self, token):
        self.token = token
    def open(self, rw, user_pin):
        tried.append(user_pin)
        return self.token.open(rw=rw, user_pin=user_pin)
lib = pkcs11.lib(sys.argv[1])
class Lib:
    def get_token(self, token_label):
        return Counted(lib.get_token(token_label=token_label))
pkcs11.lib = lambda path: Lib()
token = Token(Path(sys.argv[1]), "printsvc", lambda: pins[len(told)])
for _ in pins:
    try:
        token.list_keys()
        told.append("open")
    except SignerError as error:
        told.append("PinIncorrect" in error.en)
print(tried, told)
"""


def test_a_wrong_pin_is_said_and_not_repeated(module: Path) -> None:
    # In a process of its own: a login is the process's.
    told = subprocess.run([sys.executable, "-c", WRONG_PIN, str(module)], capture_output=True, text=True, check=True)
    assert "PinIncorrect" in told.stdout
    assert "9999" not in told.stdout + told.stderr


def test_a_wrong_pin_is_tried_once_and_locks_nobody_out(module: Path) -> None:
    told = subprocess.run([sys.executable, "-c", LOCKING_OUT, str(module)], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "['9999', '1234'] [True, True, True, 'open']"


def test_a_token_that_goes_is_seen_before_the_next_dose_and_found_again(
    module: Path, store: Any, publish: Callable[..., Any], tmp_path: Path
) -> None:
    import pkcs11

    tokens = Path(os.environ["SOFTHSM2_CONF"]).parent / "tokens"
    others = set(tokens.iterdir())
    label = f"goes-{next(serials)}"
    initialise(label)
    pkcs11.lib(str(module)).reinitialize()
    keys = TokenKeys(Token(module, label, lambda: PIN))
    certificate = certify(keys)
    publish(store, keys.open(certificate), now=NOW, key_store="pkcs11")
    followed = FollowedSigners(store, {"pkcs11": keys})
    followed.look_now(NOW)
    assert followed.current(NOW).certificate == certificate
    [place] = set(tokens.iterdir()) - others
    place.rename(tmp_path / "unplugged")
    pkcs11.lib(str(module)).reinitialize()
    followed.look_now(NOW + timedelta(seconds=16))
    with pytest.raises(SignerError, match="does not answer"):
        followed.current(NOW + timedelta(seconds=16))
    assert list(followed.closed()) == [read_dsc(certificate).thumbprint]
    (tmp_path / "unplugged").rename(place)
    pkcs11.lib(str(module)).reinitialize()
    followed.look_now(NOW + timedelta(seconds=20))
    check(followed.current(NOW + timedelta(seconds=20)), followed.current(NOW).sign(b"data"), b"data")


def test_a_session_that_the_token_forgot_is_opened_anew(keys: TokenKeys, module: Path) -> None:
    signer = keys.open(certify(keys))
    import pkcs11

    pkcs11.lib(str(module)).reinitialize()
    check(signer, signer.sign(b"data"), b"data")


async def test_certificates_are_issued_with_a_token_and_others_verify_them(
    keys: TokenKeys, store: Any, make_world: Callable[[Any], Any], publish: Callable[..., Any]
) -> None:
    certificate = certify(keys)
    signer: Any = keys.open(certificate)
    publish(store, signer, now=NOW, key_store="pkcs11")
    world = make_world(store)
    followed = FollowedSigners(store, {"pkcs11": keys})
    followed.look_now(NOW)
    object.__setattr__(world.services, "signers", followed)
    [recorded] = await world.record(world.event("D-1"))
    trust = make_trust_list([certificate], version=1, made_at=NOW)
    verdict = verify(recorded.dose.certificate.hcert, trust=trust, at=NOW)
    assert verdict.to_json()["verdict"] == "valid"
