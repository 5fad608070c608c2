"""An issuer of OpenID Connect tokens, with its own keys."""

import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

Json = dict[str, Any]
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

CURVES: dict[str, type[ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1]] = {
    "ES256": ec.SECP256R1,
    "ES384": ec.SECP384R1,
    "ES512": ec.SECP521R1,
}


def make_key(algorithm: str = "RS256", bits: int = 2048) -> Key:
    """Return a new key for an algorithm. `bits` is the size of an RSA key."""
    if algorithm in CURVES:
        return ec.generate_private_key(CURVES[algorithm]())
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


class Issuer:
    """Signs tokens with its newest key, and publishes all keys until they are withdrawn."""

    def __init__(self, algorithm: str = "RS256") -> None:
        self._algorithm = algorithm
        self._keys: dict[str, Key] = {}
        self.rotate("first")

    def rotate(self, key_id: str) -> None:
        """Create a key, and sign with it from now on."""
        self._key_id = key_id
        self._keys[key_id] = make_key(self._algorithm)

    def withdraw(self, key_id: str) -> None:
        """Remove a key from the published key set."""
        del self._keys[key_id]

    def token(self, claims: Json, **header: Any) -> str:
        """Return a token with these claims."""
        return jwt.encode(
            claims,
            self._keys[self._key_id],
            algorithm=self._algorithm,
            headers={"kid": self._key_id, **header},
        )

    def document(self) -> bytes:
        """Return the published key set."""
        keys = [public(key, key_id, self._algorithm) for key_id, key in self._keys.items()]
        return json.dumps({"keys": keys}).encode()


def public(key: Key, key_id: str, algorithm: str) -> Json:
    """Return the public key of a key, as a JSON Web Key."""
    if isinstance(key, rsa.RSAPrivateKey):
        jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        jwk = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**jwk, "kid": key_id, "alg": algorithm, "use": "sig"}
