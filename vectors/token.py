#!/usr/bin/env python3
"""Known answers for docs/spec/token.md, from the specification alone: `vectors/token.json`.

A second implementation of the format and the chain in the standard library of Python, XSalsa20
and Poly1305 included. `python3 vectors/token.py` prints the file; `--check` compares it with the
one that is there.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent


# --- the chain (TK-60, TK-63) -------------------------------------------------------------
def mac(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def derive(root):
    return mac(b"macaroons-key-generator", root)


def branch(tail):
    return hashlib.sha256(b"tk-branch-v1" + tail).digest()[:16]


# --- secretbox (TK-70): Salsa20 specification, RFC 8439 section 2.5 for Poly1305 ------------
def rounds(x):
    def rot(v, n):
        v &= 0xFFFFFFFF
        return (v << n | v >> (32 - n)) & 0xFFFFFFFF

    def quarter(a, b, c, d):
        x[b] ^= rot(x[a] + x[d], 7)
        x[c] ^= rot(x[b] + x[a], 9)
        x[d] ^= rot(x[c] + x[b], 13)
        x[a] ^= rot(x[d] + x[c], 18)

    for _ in range(10):
        for a, b, c, d in (0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11):
            quarter(a, b, c, d)
        for a, b, c, d in (0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14):
            quarter(a, b, c, d)


def salsa_state(key, middle):
    k, n = struct.unpack("<8I", key), struct.unpack("<4I", middle)
    s = struct.unpack("<4I", b"expand 32-byte k")
    return [s[0], *k[:4], s[1], *n, s[2], *k[4:], s[3]]


def hsalsa20(key, nonce16):
    x = salsa_state(key, nonce16)
    rounds(x)
    return struct.pack("<8I", x[0], x[5], x[10], x[15], x[6], x[7], x[8], x[9])


def salsa20(key, nonce8, length):
    out = b""
    for counter in range((length + 63) // 64):
        start = salsa_state(key, nonce8 + struct.pack("<Q", counter))
        x = list(start)
        rounds(x)
        out += struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(x, start)))
    return out[:length]


def poly1305(key, message):
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for at in range(0, len(message), 16):
        total = (total + int.from_bytes(message[at : at + 16] + b"\x01", "little")) * r % (2**130 - 5)
    return ((total + int.from_bytes(key[16:], "little")) % 2**128).to_bytes(16, "little")


def seal(key, nonce, message):
    stream = salsa20(hsalsa20(key, nonce[:16]), nonce[16:], 32 + len(message))
    sealed = bytes(a ^ b for a, b in zip(message, stream[32:]))
    return nonce + poly1305(stream[:32], sealed) + sealed


# --- the format (TK-10, TK-20, TK-40) -------------------------------------------------------
def identifier(at_mint=0, subject="", expiry=1_800_000_000, parent=None, millis=1_790_000_000_123):
    lineage = b"\x09" * 10 + millis.to_bytes(6, "big")
    flags = 0 if parent is None else 1
    return (
        bytes([1, flags, at_mint]) + bytes(range(1, 9)) + lineage + expiry.to_bytes(5, "big")
        + (parent or b"") + subject.encode()
    )


def varint(n):
    out = b""
    while n >= 128:
        out, n = out + bytes([n % 128 | 128]), n // 128
    return out + bytes([n])


def field(kind, data):
    return bytes([kind]) + varint(len(data)) + data


class Token:
    def __init__(self, key, ident, location=None):
        self.ident, self.location, self.sections = ident, location, b""
        self.tails = [mac(key, ident)]

    def first(self, text):
        self.sections += field(2, text) + b"\0"
        self.tails.append(mac(self.tails[-1], text))
        return self

    def third(self, cid, root, nonce, location=None):
        tail = self.tails[-1]
        vid = seal(tail, nonce, derive(root))
        where = b"" if location is None else field(1, location)
        self.sections += where + field(2, cid) + field(4, vid) + b"\0"
        self.tails.append(mac(tail, mac(tail, vid) + mac(tail, cid)))
        return self

    def v2(self, signature=None):
        where = b"" if self.location is None else field(1, self.location)
        body = b"\x02" + where + field(2, self.ident) + b"\0" + self.sections + b"\0"
        return body + field(6, signature or self.tails[-1])

    def bound(self, root):
        zero = bytes(32)
        return self.v2(mac(zero, mac(zero, root.tails[-1]) + mac(zero, self.tails[-1])))


def text(prefix, data):
    return prefix + base64.urlsafe_b64encode(data).rstrip(b"=").decode()


# --- the cases ------------------------------------------------------------------------------
ROOT = b"the root key of these vectors"


def minted(*caveats, subject="user:7", **more):
    token = Token(derive(ROOT), identifier(len(caveats), subject, **more))
    for caveat in caveats:
        token.first(caveat.encode())
    return token


def known():
    tokens = {
        "no caveat, no subject, never expires": (minted(subject="", expiry=0), ["TK-10", "TK-20"]),
        "five caveats": (
            minted("time < 2026-12-01T00:00:00Z", "action in read,list", "app in 17,42", "path under /a", "org = 7"),
            ["TK-60", "TK-62", "TK-63"],
        ),
        "a service token": (minted("host = x", parent=b"\x05" * 10 + (1_789_999_999_999).to_bytes(6, "big")), ["TK-10"]),
        "caveats of 55, 56, 63, 64, 119 and 300 bytes": (
            minted(*("c" * n for n in (55, 56, 63, 64, 119, 300))),
            ["TK-21", "TK-60"],
        ),
        "the longest subject": (minted(subject="ä" * 32), ["TK-12"]),
        "256 caveats": (minted(*["a = 1"] * 255).first(b"a = 2"), ["TK-2", "TK-13"]),
    }
    for name, (token, rules) in tokens.items():
        subject = token.ident[48 if token.ident[1] else 32 :].decode()
        yield {
            "name": name, "rules": rules, "expect": "accept", "root_key": ROOT.hex(), "subject": bool(subject),
            "v2": token.v2().hex(), "text": text("tk1_", token.v2()),
            "branches": [branch(tail).hex() for tail in token.tails],
        }


def third_party():
    cid, other, key = b"a ticket", b"another ticket", b"k" * 32
    nonce = bytes(range(24))

    def root():
        return minted("app = 1").third(cid, key, nonce, b"https://auth.example")

    def answer(to=cid, with_key=key):
        return Token(derive(with_key), to)

    r, d = root(), answer().first(b"time < 2027-01-01T00:00:00Z")
    nested = answer().third(other, b"n" * 32, nonce[::-1])
    inner = answer(other, b"n" * 32)
    loop = answer().third(cid, key, nonce[::-1])
    two = root().third(cid, key, nonce[::-1])
    later = root().first(b"app = 1")
    stolen = minted("app = 2")
    stolen.sections += field(2, cid) + field(4, seal(bytes(32), nonce, derive(key))) + b"\0"
    vid = seal(bytes(32), nonce, derive(key))
    stolen.tails.append(mac(stolen.tails[-1], mac(stolen.tails[-1], vid) + mac(stolen.tails[-1], cid)))
    names = [bytes([ord("a") + i]) for i in range(6)]

    def ladder(depth):
        top = minted().third(names[0], b"0" * 32, nonce)
        steps = []
        for i in range(depth):
            step = answer(names[i], str(i).encode() * 32)
            if i + 1 < depth:
                step.third(names[i + 1], str(i + 1).encode() * 32, nonce)
            steps.append(step)
        return top, [step.bound(top) for step in steps]

    cases = [
        ("one bound discharge", ["TK-70", "TK-71"], "accept", r, [d.bound(r)]),
        ("a nested discharge, bound to the root too", ["TK-71", "TK-72"], "accept", r, [inner.bound(r), nested.bound(r)]),
        ("four deep", ["TK-3"], "accept", *ladder(4)),
        ("five deep", ["TK-3", "TK-72"], "discharge-too-deep", *ladder(5)),
        ("no discharge", ["TK-72"], "discharge-missing", r, []),
        ("the nested one left out", ["TK-72"], "discharge-missing", r, [nested.bound(r)]),
        ("one nobody asks for", ["TK-72"], "discharge-unused", r, [d.bound(r), answer(other).bound(r)]),
        ("one twice", ["TK-72"], "discharge-duplicate", r, [d.bound(r), d.bound(r)]),
        ("one for two caveats", ["TK-72"], "discharge-reused", two, [d.bound(two)]),
        ("one that needs itself", ["TK-72"], "discharge-cyclic", r, [loop.bound(r)]),
        ("one not bound", ["TK-72"], "discharge-unbound", r, [d.v2()]),
        ("one bound before a caveat was added", ["TK-72"], "discharge-wrongly-bound", later, [d.bound(r)]),
        ("one of another key", ["TK-72"], "discharge-wrongly-bound", r, [answer(with_key=b"x").bound(r)]),
        ("a caveat key sealed elsewhere", ["TK-70", "TK-72"], "discharge-sealed-key", stolen, [d.bound(stolen)]),
    ]
    for name, rules, expect, token, discharges in cases:
        yield {
            "name": name, "rules": rules, "expect": expect, "root_key": ROOT.hex(), "subject": b"user:7" in token.ident,
            "v2": token.v2().hex(), "text": text("tk1_", token.v2()),
            "discharges": [text("td1_", discharge) for discharge in discharges],
        }


def refused():
    good = minted("app = 1").v2()
    body, signature = good[:-35], good[-35:]

    def made(ident=identifier(), sections=b"", location=None, tail=signature):
        where = b"" if location is None else field(1, location)
        return b"\x02" + where + field(2, ident) + b"\0" + sections + tail

    third = field(2, b"c") + field(4, bytes(72)) + b"\0"
    cases = [
        ("empty", ["TK-25"], "truncated", b""),
        ("another version", ["TK-20"], "malformed", b"\x01" + good[1:]),
        ("a byte after the signature", ["TK-20"], "malformed", good + b"\0"),
        ("an empty identifier", ["TK-22"], "malformed", made(b"")),
        ("an overlong length", ["TK-21"], "malformed", b"\x02\x02\x81\x00i\0" + signature),
        ("a claimed length of 2^63", ["TK-21"], "too-large", b"\x02\x02" + b"\x80" * 9 + b"\x01"),
        ("a vid of 71 bytes", ["TK-23"], "malformed", made(sections=field(2, b"c") + field(4, bytes(71)) + b"\0")),
        ("an empty vid", ["TK-23"], "malformed", made(sections=field(2, b"c") + field(4, b"") + b"\0")),
        ("a location on a first-party caveat", ["TK-24"], "malformed", made(sections=field(1, b"l") + field(2, b"c") + b"\0")),
        ("a location with a control character", ["TK-24"], "malformed", made(location=b"a\x1bb")),
        ("a location that is not UTF-8", ["TK-24"], "malformed", made(sections=field(1, b"\xff") + third)),
        ("fields out of order", ["TK-20"], "malformed", made(sections=field(4, bytes(72)) + field(2, b"c") + b"\0")),
        ("an unknown field", ["TK-20"], "malformed", made(sections=field(2, b"c") + field(5, b"") + b"\0")),
        ("257 caveats", ["TK-2"], "too-large", made(sections=(field(2, b"") + b"\0") * 257)),
        ("a caveat of 4,097 bytes", ["TK-2"], "too-large", made(sections=field(2, b"c" * 4097) + b"\0")),
        ("an identifier of 4,097 bytes", ["TK-2"], "too-large", made(b"i" * 4097)),
        ("a location of 1,025 bytes", ["TK-2"], "too-large", made(location=b"l" * 1025)),
        ("16,385 bytes", ["TK-1"], "too-large", good + bytes(16_385 - len(good))),
        ("another signature", ["TK-60", "TK-61"], "not-authentic", good[:-1] + bytes([good[-1] ^ 1])),
        ("a caveat taken off", ["TK-60"], "not-authentic", minted("a = 1").first(b"b = 2").v2(minted("a = 1").tails[-1])),
        ("identifier version 2", ["TK-10"], "malformed", made(b"\x02" + identifier()[1:])),
        ("an unknown flag", ["TK-10"], "malformed", made(b"\x01\x02" + identifier()[2:])),
        ("an identifier cut off", ["TK-10"], "malformed", made(identifier()[:31])),
        ("minted past the year 9999", ["TK-11"], "malformed", made(identifier(millis=253_402_300_800_000))),
        ("expiry past the year 9999", ["TK-11"], "malformed", made(identifier(expiry=253_402_300_800))),
        ("a control character in the subject", ["TK-12"], "malformed", made(identifier(subject="a\x85b"))),
        ("more caveats at mint than there are", ["TK-13"], "malformed", made(identifier(at_mint=1))),
    ]
    for name, rules, expect, data in cases:
        yield {
            "name": name, "rules": rules, "expect": expect, "root_key": ROOT.hex(), "subject": b"user:7" in data,
            "v2": data.hex(),
        }


def headers():
    tk, td = text("tk1_", minted("app = 1").v2()), text("td1_", Token(derive(b"k"), b"a ticket").v2())
    plain = tk[4:]
    spare = tk[:-1] + chr(ord(tk[-1]) + 1)
    cases = [
        ("one token", ["TK-50"], "accept", [0], f"Bearer {tk}"),
        ("the other scheme", ["TK-50"], "accept", [0], f"macaroon {tk}"),
        ("roots with their discharges", ["TK-51", "TK-52"], "accept", [2, 0, 1], f"Bearer {tk},{td}, {td},{tk} ,\t{tk},{td}"),
        ("strange prefixes between", ["TK-53"], "accept", [1], f"Bearer fm2_x,{tk},a.b.c,{td}"),
        ("another scheme", ["TK-50"], "unknown-scheme", [], f"Basic {tk}"),
        ("nothing", ["TK-50"], "missing", [], ""),
        ("an empty place", ["TK-50"], "malformed", [], f"Bearer {tk},,{tk}"),
        ("a comma at the end", ["TK-50"], "truncated", [], f"Bearer {tk},"),
        ("a discharge first", ["TK-51"], "malformed", [], f"Bearer {td},{tk}"),
        ("only strange prefixes", ["TK-53"], "unknown-prefix", [], "Bearer fm2_x"),
        ("no prefix", ["TK-56"], "unknown-prefix", [], f"Bearer {plain}"),
        ("a malformed one behind a good one", ["TK-53"], "malformed", [], f"Bearer {tk},tk1_AAAA"),
        ("five roots", ["TK-3"], "too-large", [], "Bearer " + ",".join([tk] * 5)),
        ("seventeen discharges", ["TK-3"], "too-large", [], f"Bearer {tk}" + f",{td}" * 17),
        ("padding", ["TK-40"], "malformed", [], f"Bearer {tk}="),
        ("the other alphabet", ["TK-40"], "malformed", [], "Bearer tk1_AgI+/w"),
        ("cut in the prefix", ["TK-43"], "truncated", [], "Bearer tk1"),
        ("cut in the base64", ["TK-43"], "truncated", [], f"Bearer {tk[:-1]}"),
        ("cut in the middle of a byte", ["TK-43"], "truncated", [], f"Bearer {tk[:9]}"),
    ]
    if len(tk[4:]) % 4:
        cases.append(("bits beyond the last byte", ["TK-40"], "malformed", [], f"Bearer {spare}"))
    for name, rules, expect, discharges, value in cases:
        yield {"name": name, "rules": rules, "expect": expect, "discharges_of_each": discharges, "value": value}


def main():
    tokens = [*known(), *third_party(), *refused()]
    for case in tokens:
        case.setdefault("discharges", [])
    made = {
        "about": "Known answers for docs/spec/token.md; made by vectors/token.py. `expect` is `accept` or an error code.",
        "tokens": tokens,
        "headers": list(headers()),
    }
    out = json.dumps(made, indent=1, ensure_ascii=True) + "\n"
    if "--check" in sys.argv:
        sys.exit(0 if (HERE / "token.json").read_text() == out else "vectors/token.json is not what vectors/token.py makes")
    sys.stdout.write(out)


if __name__ == "__main__":
    main()
