"""The authentication schemes of sources. The table of sources names them, `http` checks them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """An HMAC of the unparsed body in a header, as hexadecimal digits after an optional prefix.

    The header's name is in lower case. `algorithm` is a name that `hashlib` knows.
    """

    header: str
    algorithm: str = "sha256"
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """The ways in which a source may authenticate its requests. One of them is enough.

    `authorization`: the secret is in `Authorization`, bare, as Bearer token or as Basic password.
    `headers`: the bare secret is in one of these headers, whose names are in lower case.
    `signatures`: the sender signs the body with the secret.
    `in_path`: the secret is the last part of the path, for senders that can't set a header.
    """

    authorization: bool = False
    headers: tuple[str, ...] = ()
    signatures: tuple[Signature, ...] = ()
    in_path: bool = False
