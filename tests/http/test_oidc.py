"""Tokens of OpenID Connect: valid ones, and every way in which one can be invalid."""

import base64
import hashlib
import hmac
import json
import time
from dataclasses import replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from image_puller import limits
from image_puller.errors import KeysUnavailableError
from image_puller.http.oidc import (
    GOOGLE_ISSUERS,
    KeySet,
    OidcVerifier,
    TokenRule,
    key_set,
    of_cluster,
    of_google,
)
from tests.support.building import configuration
from tests.support.issuer import Issuer, Json, make_key, public

CLUSTER = "https://kubernetes.default.svc.cluster.local"
AUDIENCE = "puller.images"
SUBJECT = "system:serviceaccount:images:pushed-oidc-eventing.knative.dev-trigger"
RULE = TokenRule(
    issuers=(CLUSTER,), audience=AUDIENCE, subjects=("system:serviceaccount:images:*",)
)
ACCOUNT = "pusher@project.iam.gserviceaccount.com"
GOOGLE = TokenRule(issuers=GOOGLE_ISSUERS, audience="https://puller", email=ACCOUNT)


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


class FixedKeys:
    """The keys of an issuer, which never change."""

    def __init__(self, issuer: Issuer, name: str | None = None) -> None:
        self.set = key_set(issuer.document(), name)

    def current(self, key_id: str) -> KeySet:
        return self.set


def claims(**changes: Any) -> Json:
    """Return the claims of a valid token, with changes.

    Times are seconds from now. A change to None removes the claim.
    """
    changed: Json = {
        "iss": CLUSTER,
        "aud": [AUDIENCE],
        "sub": SUBJECT,
        "iat": 0,
        "nbf": 0,
        "exp": 3600,
    } | changes
    now = time.time()
    for name in ("iat", "nbf", "exp"):
        if isinstance(changed[name], int):
            changed[name] += now
    return {name: value for name, value in changed.items() if value is not None}


def is_valid(issuer: Issuer, token: str, rule: TokenRule = RULE, name: str | None = None) -> bool:
    return OidcVerifier("events", rule, FixedKeys(issuer, name)).verify(f"Bearer {token}")


def encoded(value: object) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"])
def test_token_of_the_issuer_is_valid(algorithm: str) -> None:
    issuer = Issuer(algorithm)
    assert is_valid(issuer, issuer.token(claims()))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": AUDIENCE},
        {"aud": ["another", AUDIENCE]},
        {"exp": -10},
        {"nbf": 10},
        {"nbf": None, "iat": None},
        {"sub": "system:serviceaccount:images:x"},
        {"email": "anything"},
    ],
)
def test_token_with_other_acceptable_claims_is_valid(issuer: Issuer, changes: Json) -> None:
    assert is_valid(issuer, issuer.token(claims(**changes)))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": -60}, "Signature has expired"),
        ({"exp": None}, 'Token is missing the "exp" claim'),
        ({"exp": "never"}, "Expiration Time claim (exp) must be an integer"),
        ({"nbf": 600}, "The token is not yet valid (nbf)"),
        ({"iat": 600}, "The token is not yet valid (iat)"),
        (
            {"aud": ["puller.other"]},
            f"Audience doesn't match; expected: audience {AUDIENCE}, issuer {CLUSTER}",
        ),
        ({"aud": AUDIENCE + "x"}, "Audience doesn't match"),
        ({"aud": []}, 'Token is missing the "aud" claim'),
        ({"aud": None}, 'Token is missing the "aud" claim'),
        ({"aud": {AUDIENCE: 1}}, "Invalid claim format in token"),
        ({"iss": "https://kubernetes"}, f"Invalid issuer; expected: audience {AUDIENCE}"),
        ({"iss": CLUSTER + "/"}, "Invalid issuer"),
        ({"iss": None}, 'Token is missing the "iss" claim'),
        ({"sub": None}, 'Token is missing the "sub" claim'),
        ({"sub": 7}, "Subject must be a string"),
        (
            {"sub": "system:serviceaccount:other:default"},
            (
                "its subject is 'system:serviceaccount:other:default'; accepted are "
                "system:serviceaccount:images:*"
            ),
        ),
        ({"sub": "system:serviceaccount:images"}, "its subject is"),
    ],
)
def test_token_with_a_wrong_claim_is_rejected_and_the_reason_logged(
    issuer: Issuer, caplog: pytest.LogCaptureFixture, changes: Json, reason: str
) -> None:
    token = issuer.token(claims(**changes))
    assert not is_valid(issuer, token)
    logged = caplog.messages[0].removeprefix("a token for events was rejected: ")
    assert logged.lstrip("'").startswith(reason)
    assert token not in caplog.text


def test_subject_without_a_star_matches_only_itself(issuer: Issuer) -> None:
    rule = replace(RULE, subjects=("a", SUBJECT))
    assert is_valid(issuer, issuer.token(claims()), rule)
    assert is_valid(issuer, issuer.token(claims(sub="a")), rule)
    assert not is_valid(issuer, issuer.token(claims(sub=f"{SUBJECT}x")), rule)
    assert not is_valid(issuer, issuer.token(claims(sub="a*")), rule)


def test_issuer_may_be_the_one_that_came_with_the_keys(issuer: Issuer) -> None:
    rule = replace(RULE, issuers=())
    assert is_valid(issuer, issuer.token(claims()), rule, CLUSTER)
    assert not is_valid(issuer, issuer.token(claims()), rule, "https://another")
    # Without the name of the issuer, no token is valid.
    assert not is_valid(issuer, issuer.token(claims()), rule)
    assert not is_valid(issuer, issuer.token(claims(iss="")), rule)


@pytest.mark.parametrize("name", GOOGLE_ISSUERS)
def test_token_of_google_is_valid_only_for_the_configured_service_account(
    issuer: Issuer, name: str
) -> None:
    right = claims(iss=name, aud="https://puller", sub="1234", email=ACCOUNT, email_verified=True)
    assert is_valid(issuer, issuer.token(right), GOOGLE)
    for wrong in (
        {"email": "somebody@gmail.com"},
        {"email": ACCOUNT.upper()},
        {"email": [ACCOUNT]},
        {"email": None},
        {"email_verified": False},
        {"email_verified": "true"},
        {"email_verified": None},
        {"iss": "https://accounts.google.com.example"},
        {"aud": "https://another"},
    ):
        other = {name: value for name, value in (right | wrong).items() if value is not None}
        assert not is_valid(issuer, issuer.token(other), GOOGLE)


def test_token_signed_with_another_key_is_rejected(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = Issuer()
    assert not is_valid(issuer, stranger.token(claims()))
    assert "Signature verification failed" in caplog.text
    stranger.rotate("second")
    assert not is_valid(issuer, stranger.token(claims()))
    assert "its issuer has no key 'second'" in caplog.text


def test_changed_token_is_rejected(issuer: Issuer) -> None:
    header, payload, signature = issuer.token(claims()).split(".")
    other = encoded(claims(sub="system:serviceaccount:images:admin"))
    assert not is_valid(issuer, f"{header}.{other}.{signature}")
    assert not is_valid(issuer, f"{header}.{payload}.{signature[:-4]}")
    assert not is_valid(issuer, f"{header}.{payload}.AAAA")
    assert not is_valid(issuer, f"{header}.{payload}.")


def test_token_can_not_choose_its_algorithm(issuer: Issuer) -> None:
    """Try the known attacks: no signature, and an HMAC with the public key as its secret."""
    payload = encoded(claims())
    for name in ("none", "None", "NONE", ""):
        header = encoded({"alg": name, "kid": "first"})
        assert not is_valid(issuer, f"{header}.{payload}.")
        assert not is_valid(issuer, f"{header}.{payload}.AAAA")
    pem = (
        issuer._keys["first"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    for secret in (pem, issuer.document(), b""):
        signed = f"{encoded({'alg': 'HS256', 'kid': 'first'})}.{payload}"
        digest = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        assert not is_valid(issuer, f"{signed}.{encoded(digest)}")


@pytest.mark.parametrize("algorithm", ["RS384", "PS256"])
def test_key_is_for_one_algorithm(issuer: Issuer, algorithm: str) -> None:
    token = jwt.encode(claims(), issuer._keys["first"], algorithm, headers={"kid": "first"})
    assert not is_valid(issuer, token)


def test_token_without_key_id_is_rejected(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    assert not is_valid(issuer, jwt.encode(claims(), issuer._keys["first"], "RS256"))
    assert "it names no key" in caplog.text


@pytest.mark.parametrize(
    "headers",
    [
        {"crit": ["\n2026-01-01T12:00:00.250Z INFO forged"]},
        {"crit": ["x"], "x": 1, "kid": "\nforged"},
        {"kid": "\nforged"},
    ],
)
def test_text_of_a_token_is_quoted_in_the_log(
    issuer: Issuer, caplog: pytest.LogCaptureFixture, headers: dict[str, Any]
) -> None:
    assert not is_valid(issuer, issuer.token(claims(), **headers))
    (message,) = caplog.messages
    assert message.startswith("a token for")
    assert message.isprintable()


def test_token_with_an_unknown_critical_header_is_rejected(issuer: Issuer) -> None:
    assert is_valid(issuer, issuer.token(claims(), typ="at+jwt"))
    assert not is_valid(issuer, issuer.token(claims(), crit=["x"], x=1))


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer a.b",
        "Bearer a.b.c",
        "Bearer a.b.c.d",
        "Bearer ä.b.c",
        "Bearer \udcff.b.c",
        "Bearer " + "e30." * 2 + "e30",
        "Bearer " + encoded(b"[" * 5000) + ".e30.e30",
        "Bearer " + encoded([]) + ".e30.e30",
        "Bearer " + encoded({"alg": "RS256", "kid": ["first"]}) + ".e30.e30",
        "Bearer " + encoded({"alg": "RS256", "kid": 1}) + ".e30.e30",
        "Bearer " + encoded({"alg": ["RS256"], "kid": "first"}) + ".e30.e30",
        "Bearer " + encoded({"alg": "RS256", "kid": "first", "b64": False}) + "..e30",
        "Bearer " + "a" * 5_000_000 + ".b.c",
    ],
)
def test_malformed_token_is_rejected(issuer: Issuer, authorization: str | None) -> None:
    assert not OidcVerifier("events", RULE, FixedKeys(issuer)).verify(authorization)


def test_token_is_accepted_only_as_bearer_token(issuer: Issuer) -> None:
    token = issuer.token(claims())
    verifier = OidcVerifier("events", RULE, FixedKeys(issuer))
    for right in (f"Bearer {token}", f"bearer  {token}", f" BEARER {token} "):
        assert verifier.verify(right)
    for wrong in (token, f"Basic {token}", f"Token {token}", f"Bearer Bearer {token}"):
        assert not verifier.verify(wrong)


def test_token_that_is_longer_than_a_header_is_rejected(issuer: Issuer) -> None:
    assert not is_valid(issuer, issuer.token(claims(more="x" * limits.TOKEN_CHARACTERS)))
    assert is_valid(issuer, issuer.token(claims(more="x" * 5000)))


@given(st.text() | st.from_regex(r"Bearer [A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*"))
def test_random_text_is_rejected_before_keys_are_read(text: str) -> None:
    class UnusedKeys:
        def current(self, key_id: str) -> KeySet:
            raise AssertionError(key_id)

    assert not OidcVerifier("events", RULE, UnusedKeys()).verify(text)


def test_missing_keys_are_an_error_and_no_rejection(issuer: Issuer) -> None:
    class UnavailableKeys:
        def current(self, key_id: str) -> KeySet:
            raise KeysUnavailableError(key_id)

    with pytest.raises(KeysUnavailableError, match="first"):
        OidcVerifier("events", RULE, UnavailableKeys()).verify(f"Bearer {issuer.token(claims())}")


# Key sets


def test_key_set_has_only_the_usable_keys() -> None:
    rsa, short, curve = make_key(), make_key(bits=1024), make_key("ES256")
    good = [public(rsa, "rsa", "RS256"), public(curve, "curve", "ES256")]
    without_algorithm = {k: v for k, v in public(rsa, "plain", "RS256").items() if k != "alg"}
    unusable = [
        None,
        "text",
        {},
        {"kty": "RSA", "kid": "empty"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "RS256"},
        {"kty": "OKP", "crv": "Ed25519", "x": "", "kid": "edwards"},
        public(rsa, "encrypts", "RS256") | {"use": "enc"},
        public(rsa, "padded", "PS256"),
        public(rsa, "unknown", "RS257"),
        public(rsa, "wrong", "ES256"),
        public(rsa, "listed", "RS256") | {"kid": ["listed"]},
        {k: v for k, v in public(rsa, "nameless", "RS256").items() if k != "kid"},
    ]
    listed = [*unusable, *good, without_algorithm, public(short, "short", "RS256")]
    found = key_set(json.dumps({"keys": listed}).encode(), "https://issuer")
    assert set(found.keys) == {"rsa", "curve", "plain", "short"}
    assert found.issuer == "https://issuer"


def test_token_with_a_key_that_is_too_short_is_rejected(caplog: pytest.LogCaptureFixture) -> None:
    issuer = Issuer()
    issuer._keys["first"] = make_key(bits=1024)
    with pytest.warns(match="below the minimum recommended"):
        token = issuer.token(claims())
    assert not is_valid(issuer, token)
    assert "1024 bits" in caplog.text


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 40_000, "nested too deeply"),
        (b"[]", "no list of keys"),
        (b"{}", "no list of keys"),
        (b'{"keys": {}}', "no list of keys"),
        (b'{"keys": []}', "no key with an id for any of RS256, RS384"),
        (b'{"keys": [{"kty": "oct", "k": "eA", "kid": "x", "alg": "HS256"}]}', "no key with an id"),
    ],
)
def test_error_about_a_malformed_key_set_has_the_reason(document: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        key_set(document)


def test_only_the_first_keys_of_a_long_key_set_are_read() -> None:
    empty: list[Json] = [{}] * limits.KEYS_MOST
    listed = [*empty, public(make_key(), "last", "RS256")]
    with pytest.raises(ValueError, match="no key"):
        key_set(json.dumps({"keys": listed}).encode())


# The rules of the configuration


def test_rule_of_a_cluster_is_read_from_the_configuration() -> None:
    config = configuration(EVENT_AUTH="oidc", OIDC_AUDIENCE=AUDIENCE, NAMESPACE="images")
    assert config.oidc is not None
    assert of_cluster(config.oidc) == replace(RULE, issuers=())
    assert of_cluster(replace(config.oidc, issuer=CLUSTER)) == RULE


def test_rule_of_google_is_read_from_the_configuration() -> None:
    config = configuration(GAR_AUDIENCE="https://puller", GAR_SERVICE_ACCOUNT=ACCOUNT)
    assert config.google is not None
    assert of_google(config.google) == GOOGLE
