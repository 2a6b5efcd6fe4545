"""The C library libmacaroons 0.3 (Debian's libmacaroons0) through ctypes: V1 only."""

import base64
import ctypes
import ctypes.util

NAME = "libmacaroons-0.3.0"
_lib = ctypes.CDLL(ctypes.util.find_library("macaroons") or "libmacaroons.so.0")
_P, _S, _Z = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
_E = ctypes.POINTER(ctypes.c_int)


def _declare(name, result, *arguments):
    function = getattr(_lib, name)
    function.restype, function.argtypes = result, list(arguments)
    return function


_create = _declare("macaroon_create", _P, _S, _Z, _S, _Z, _S, _Z, _E)
_destroy = _declare("macaroon_destroy", None, _P)
_first = _declare("macaroon_add_first_party_caveat", _P, _P, _S, _Z, _E)
_third = _declare("macaroon_add_third_party_caveat", _P, _P, _S, _Z, _S, _Z, _S, _Z, _E)
_prepare = _declare("macaroon_prepare_for_request", _P, _P, _P, _E)
_size = _declare("macaroon_serialize_size_hint", _Z, _P)
_write = _declare("macaroon_serialize", ctypes.c_int, _P, ctypes.c_char_p, _Z, _E)
_read = _declare("macaroon_deserialize", _P, _S, _E)
_verifier = _declare("macaroon_verifier_create", _P)
_verifier_end = _declare("macaroon_verifier_destroy", None, _P)
_exact = _declare("macaroon_verifier_satisfy_exact", ctypes.c_int, _P, _S, _Z, _E)
_verify = _declare("macaroon_verify", ctypes.c_int, _P, _P, _S, _Z, ctypes.POINTER(_P), _Z, _E)


class NoMacaroon(Exception):
    """The library does not parse it."""


class Macaroon:
    """One macaroon of the C library; every step gives a new one."""

    def __init__(self, pointer, error):
        if not pointer:
            raise NoMacaroon(error.value)
        self.pointer = pointer

    def __del__(self):
        if getattr(self, "pointer", None):
            _destroy(self.pointer)

    @staticmethod
    def create(location, key, identifier):
        e = ctypes.c_int()
        return Macaroon(_create(location, len(location), key, len(key), identifier, len(identifier), e), e)

    @staticmethod
    def read(raw):
        e = ctypes.c_int()
        text = base64.urlsafe_b64encode(raw).rstrip(b"=")
        return Macaroon(_read(text, e), e)

    def first(self, predicate):
        e = ctypes.c_int()
        return Macaroon(_first(self.pointer, predicate, len(predicate), e), e)

    def third(self, location, key, identifier):
        e = ctypes.c_int()
        args = location, len(location), key, len(key), identifier, len(identifier)
        return Macaroon(_third(self.pointer, *args, e), e)

    def bind(self, discharge):
        e = ctypes.c_int()
        return Macaroon(_prepare(self.pointer, discharge.pointer, e), e)

    def write(self):
        e = ctypes.c_int()
        size = _size(self.pointer)
        buffer = ctypes.create_string_buffer(size)
        if _write(self.pointer, buffer, size, e) != 0:
            raise NoMacaroon(e.value)
        text = buffer.value
        return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))

    def verify(self, key, discharges, predicates):
        """Whether it holds with these discharges and exact predicates."""
        e = ctypes.c_int()
        verifier = _verifier()
        try:
            for text in predicates:
                _exact(verifier, text, len(text), e)
            array = (_P * max(1, len(discharges)))(*[d.pointer for d in discharges])
            return _verify(verifier, self.pointer, key, len(key), array, len(discharges), e) == 0
        finally:
            _verifier_end(verifier)
