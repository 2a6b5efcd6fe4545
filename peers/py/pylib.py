"""pymacaroons 0.13: V1, V2 and V2 JSON."""

import binascii

from pymacaroons import MACAROON_V1, MACAROON_V2, Macaroon, Verifier
from pymacaroons.serializers import BinarySerializer, JsonSerializer

NAME = "pymacaroons-0.13.0"


class NoMacaroon(Exception):
    """The library does not parse it."""


def read(raw):
    """A macaroon from binary V1 or V2, or from JSON text."""
    try:
        if raw[:1] == b"{":
            return JsonSerializer().deserialize(raw.decode("utf-8"))
        macaroon = BinarySerializer().deserialize_raw(raw)
        if not macaroon.signature or macaroon.identifier is None:
            raise NoMacaroon("incomplete")
        return macaroon
    except NoMacaroon:
        raise
    except Exception as error:
        raise NoMacaroon(repr(error)) from error


def write(macaroon, form):
    if form == "V2JSON":
        return JsonSerializer().serialize(macaroon).encode("utf-8")
    return BinarySerializer().serialize_raw(macaroon)


def create(location, key, identifier, form):
    version = MACAROON_V1 if form == "V1" else MACAROON_V2
    return Macaroon(location=location, identifier=identifier, key=key, version=version)


def signature(macaroon):
    return binascii.unhexlify(macaroon.signature)


def judge(raw, discharges, key, predicates):
    """`accept`, `reject` or `parse_error`."""
    try:
        macaroon, others = read(raw), [read(one) for one in discharges]
    except NoMacaroon:
        return "parse_error"
    verifier = Verifier()
    texts = set()
    for text in predicates:
        try:
            texts.add(text.decode("utf-8"))
        except UnicodeDecodeError:
            pass
    verifier.satisfy_general(lambda predicate: predicate in texts)
    try:
        return "accept" if verifier.verify(macaroon, key, others) else "reject"
    except Exception:
        return "reject"
