"""An issuer of OpenID Connect tokens, with keys made for a test."""

import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

Json = dict[str, Any]
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

CURVES = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}


def make_key(algorithm: str = "RS256", bits: int = 2048) -> Key:
    """A new key for an algorithm."""
    if algorithm in CURVES:
        return ec.generate_private_key(CURVES[algorithm]())
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


class Issuer:
    """Signs tokens, by one key at a time, and publishes the keys that it has had."""

    def __init__(self, algorithm: str = "RS256") -> None:
        self._algorithm = algorithm
        self._keys: dict[str, Key] = {}
        self.rotate("first")

    def rotate(self, key_id: str) -> None:
        """Sign with a new key from now on."""
        self._key_id = key_id
        self._keys[key_id] = make_key(self._algorithm)

    def withdraw(self, key_id: str) -> None:
        """Publish a key no longer."""
        del self._keys[key_id]

    def token(self, claims: Json, **header: Any) -> str:
        """A token of these claims."""
        return jwt.encode(
            claims,
            self._keys[self._key_id],
            algorithm=self._algorithm,
            headers={"kid": self._key_id, **header},
        )

    def document(self) -> bytes:
        """The key set, as it is published."""
        keys = [public(key, key_id, self._algorithm) for key_id, key in self._keys.items()]
        return json.dumps({"keys": keys}).encode()


def public(key: Key, key_id: str, algorithm: str) -> Json:
    """A key's public half, as a JSON Web Key."""
    if isinstance(key, rsa.RSAPrivateKey):
        jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        jwk = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**jwk, "kid": key_id, "alg": algorithm, "use": "sig"}
