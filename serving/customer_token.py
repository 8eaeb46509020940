"""A site's word that a visitor is this customer: signed on its server, shown by its pages, good for an hour.

    token = "<seconds since 1970>.<HMAC-SHA256 of "<seconds since 1970>.<customer_id>", in hexadecimal>"

The key of the HMAC is the public key's signing secret. Any language has what it takes.
"""

from __future__ import annotations

import hmac

from serving.keys import Key
from serving.problems import Forbidden

GOOD_FOR_S = 3600
CLOCKS_DIFFER_S = 300  # a token may come from a clock that is ahead of ours
LONGEST = 128


class CustomerTokenRefused(Forbidden):
    code = "customer_token_refused"


def sign(signing_secret: str, customer_id: str, now_s: float) -> str:
    """A token for this customer, good for an hour from now."""
    said = f"{int(now_s)}.{customer_id}".encode()
    return f"{int(now_s)}.{hmac.digest(signing_secret.encode(), said, 'sha256').hex()}"


def check(key: Key, customer_id: str, token: str | None, now_s: float) -> None:
    """`CustomerTokenRefused` unless the site that has this key's signing secret has signed this customer lately."""
    if token is None:
        raise CustomerTokenRefused("a public key needs a customer_token with a customer_id; or send an anonymous_id")
    if key.signing_secret is None:
        raise CustomerTokenRefused("this key is older than customer tokens: make a new one with `nbo keys create`")
    made, _, _ = token[:LONGEST].partition(".")
    made_s = int(made) if made.isascii() and made.isdigit() and len(made) <= 12 else 0
    expected = sign(key.signing_secret, customer_id, made_s)
    # one comparison, in constant time, and only then a word on the age: nothing is told about a token that is not ours
    if not hmac.compare_digest(expected.encode(), token.encode("utf-8", "surrogateescape")):
        raise CustomerTokenRefused("the customer_token is not this customer's, signed with this key's signing secret")
    if made_s < now_s - GOOD_FOR_S:
        raise CustomerTokenRefused("the customer_token is over an hour old")
    if made_s > now_s + CLOCKS_DIFFER_S:
        raise CustomerTokenRefused("the customer_token comes from a clock that is more than 5 minutes ahead")
