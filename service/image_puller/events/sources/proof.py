"""How a sender proves itself: what a row of the table says, and `authentication` checks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """An HMAC of the body as it came, in hexadecimal digits, in a header.

    The header's name is in lower case; `algorithm` is the name that `hashlib` has for it.
    """

    header: str
    algorithm: str = "sha256"
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The schemes of one sender; each alone is enough.

    `authorization`: the secret in `Authorization`, as it is, as Bearer token or Basic password.
    `headers`: the secret as it is in one of these. `signatures`: the sender signs the body with
    it. `in_path`: the secret is the last part of the path, for senders that can do nothing else.
    """

    authorization: bool = False
    headers: tuple[str, ...] = ()
    signatures: tuple[Signature, ...] = ()
    in_path: bool = False
