#!/usr/bin/env python3
"""Writes vectors/protocol.json: messages, a handshake and calls of docs/spec/protocol.md.

A second implementation, written from that page, the Noise specification and RFC 7748 / 8439,
with nothing but the standard library. Run it without arguments; it prints the JSON.
"""

import hashlib
import hmac
import json
import struct

# --- RFC 7748 -----------------------------------------------------------------------------------
P = 2**255 - 19


def x25519(scalar, point):
    k = bytearray(scalar)
    k[0] &= 248
    k[31] &= 127
    k[31] |= 64
    k = int.from_bytes(k, "little")
    u = int.from_bytes(point, "little") & ((1 << 255) - 1)
    x2, z2, x3, z3, swap = 1, 0, u, 1, 0
    for t in range(254, -1, -1):
        bit = (k >> t) & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % P, b * b % P, d * a % P, c * b % P
        e = (aa - bb) % P
        x3, z3 = (da + cb) ** 2 % P, u * (da - cb) ** 2 % P
        x2, z2 = aa * bb % P, e * (aa + 121665 * e) % P
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")


def public(private):
    return x25519(private, (9).to_bytes(32, "little"))


# --- RFC 8439 -----------------------------------------------------------------------------------
def chacha_block(key, counter, nonce):
    state = list(struct.unpack("<4I", b"expand 32-byte k"))
    state += struct.unpack("<8I", key)
    state += (counter,) + struct.unpack("<3I", nonce)
    work = state[:]

    def quarter(a, b, c, d):
        for x, y, z, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            work[x] = (work[x] + work[y]) & 0xFFFFFFFF
            mixed = work[z] ^ work[x]
            work[z] = ((mixed << by) | (mixed >> (32 - by))) & 0xFFFFFFFF

    for _ in range(10):
        for columns in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)):
            quarter(*columns)
        for diagonal in ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            quarter(*diagonal)
    return struct.pack("<16I", *((w + s) & 0xFFFFFFFF for w, s in zip(work, state)))


def chacha(key, counter, nonce, data):
    out = bytearray()
    for at in range(0, len(data), 64):
        block = chacha_block(key, counter + at // 64, nonce)
        out += bytes(a ^ b for a, b in zip(data[at : at + 64], block))
    return bytes(out)


def poly1305(key, data):
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    s = int.from_bytes(key[16:], "little")
    total = 0
    for at in range(0, len(data), 16):
        block = data[at : at + 16] + b"\x01"
        total = (total + int.from_bytes(block, "little")) * r % (2**130 - 5)
    return ((total + s) % 2**128).to_bytes(16, "little")


def pad16(data):
    return data + bytes(-len(data) % 16)


def encrypt(key, number, associated, plain):
    # Noise: 32 zero bits, then the number, little-endian.
    nonce = bytes(4) + struct.pack("<Q", number)
    sealed = chacha(key, 1, nonce, plain)
    mac_data = pad16(associated) + pad16(sealed) + struct.pack("<QQ", len(associated), len(sealed))
    return sealed + poly1305(chacha_block(key, 0, nonce)[:32], mac_data)


# --- Noise --------------------------------------------------------------------------------------
def blake(data):
    return hashlib.blake2s(data).digest()


def hkdf(chaining, material):
    def mac(key, data):
        return hmac.new(key, data, hashlib.blake2s).digest()

    temp = mac(chaining, material)
    one = mac(temp, b"\x01")
    return one, mac(temp, one + b"\x02")


class Symmetric:
    def __init__(self, prologue, responder_static):
        name = b"Noise_IK_25519_ChaChaPoly_BLAKE2s"
        self.h = self.ck = blake(name) if len(name) > 32 else name.ljust(32, b"\0")
        self.k, self.n = None, 0
        self.mix_hash(prologue)
        self.mix_hash(responder_static)

    def mix_hash(self, data):
        self.h = blake(self.h + data)

    def mix_key(self, material):
        self.ck, self.k = hkdf(self.ck, material)
        self.n = 0

    def seal(self, plain):
        sealed = encrypt(self.k, self.n, self.h, plain)
        self.n += 1
        self.mix_hash(sealed)
        return sealed


def noise(client, client_ephemeral, server, server_ephemeral, prologue):
    """PR-10, PR-11: both messages and the two keys. One state serves both sides."""
    state = Symmetric(prologue, public(server))
    e, s = public(client_ephemeral), public(client)
    state.mix_hash(e)
    state.mix_key(x25519(client_ephemeral, public(server)))  # es
    sealed_static = state.seal(s)
    state.mix_key(x25519(client, public(server)))  # ss
    first = e + sealed_static + state.seal(b"")
    answer = public(server_ephemeral)
    state.mix_hash(answer)
    state.mix_key(x25519(server_ephemeral, e))  # ee
    state.mix_key(x25519(server_ephemeral, s))  # se
    second = answer + state.seal(b"")
    return first, second, hkdf(state.ck, b"")


# --- Field types (PR-20 to PR-27) ---------------------------------------------------------------
def u8(v): return struct.pack(">B", v)
def u16(v): return struct.pack(">H", v)
def u32(v): return struct.pack(">I", v)
def u64(v): return struct.pack(">Q", v)
def data(v): return u16(len(v)) + v
def text(v): return data(v.encode())
def name(v): return u8(len(v.encode())) + v.encode()
def maybe(v): return b"\0" if v is None else b"\1" + v
def items(vs): return u16(len(vs)) + b"".join(vs)
def page(vs, cursor=None): return items(vs) + maybe(None if cursor is None else data(cursor))


REQUEST_ID = bytes(range(16))


def request(operation, params, trace=None):
    return u16(operation) + u8(1 if trace else 0) + REQUEST_ID + (trace or b"") + params


def answer(body):
    return b"\0" + body


def error(code, detail="", retry=None):
    return b"\1" + u16(code) + text(detail) + maybe(None if retry is None else u32(retry))


LINEAGE, PARENT, KEY = bytes([0x11] * 16), bytes([0x12] * 16), bytes([0x22] * 8)
BRANCH, ROW, ROW2, FEED = bytes([0x33] * 16), bytes([0x44] * 16), bytes([0x45] * 16), bytes([0x55] * 16)
CLIENT, SECRET, SECRET2 = bytes([0x66] * 32), bytes([0x77] * 32), bytes([0x78] * 32)
TOKEN, DISCHARGE, TIME = b"root token", b"discharge", u64(1_790_000_000_123)
POSITION = u64(3) + u64(70)

KEY_INFO = KEY + name("acme") + maybe(name("billing")) + u8(1) + u32(4) + u8(1) + TIME + maybe(TIME) + u64(9)
MINT_ROLE = u8(2) + maybe(items([name("acme"), name("umbrella")])) + maybe(u64(28800))
MINT_ROLE += items([data(b"action in read")]) + u8(0) + u8(1)
CLIENT_INFO = CLIENT + name("issuer") + MINT_ROLE + u8(1) + TIME + maybe(None)
ENTRY = LINEAGE + KEY + name("acme") + maybe(name("user:17")) + maybe(None) + maybe(TIME) + maybe(PARENT)
ENTRY += maybe(u8(7)) + maybe(None)
REVOKED = u8(1) + maybe(TIME) + POSITION

MESSAGES = {
    "verify": (request(0x0001, data(TOKEN) + items([data(DISCHARGE)]), bytes(range(25))),
               answer(KEY + name("acme") + maybe(name("billing")) + u8(0) + ROW + maybe(ROW2)
                      + items([BRANCH, ROW]) + POSITION)),
    "mint": (request(0x0002, name("acme") + maybe(None) + u8(0) + maybe(name("user:17")) + maybe(name("ci"))
                     + u8(2) + u32(3600)
                     + items([u8(0) + data(b"action in read"),
                              u8(1) + text("https://login.example") + data(b"ticket") + SECRET])
                     + u8(0) + u8(1)),
             answer(data(TOKEN) + LINEAGE + KEY + maybe(TIME))),
    "revoke token": (request(0x0003, u8(1) + LINEAGE + text("leaked")), answer(REVOKED)),
    "revoke branch": (request(0x0003, u8(2) + BRANCH + text("")), answer(REVOKED)),
    "revoke key": (request(0x0003, u8(3) + KEY + u8(1) + u8(1) + TIME + text("")), answer(REVOKED)),
    "revoke subject": (request(0x0003, u8(4) + name("acme") + name("user:17") + u8(0) + text("")), answer(REVOKED)),
    "revoke tenant": (request(0x0003, u8(5) + name("acme") + u8(1) + TIME + text("")), answer(REVOKED)),
    "revoke global": (request(0x0003, u8(6) + u8(0) + text("")), answer(REVOKED)),
    "revoke given": (request(0x0003, u8(7) + data(TOKEN) + u8(1) + text("")), answer(REVOKED)),
    "revoke-presented": (request(0x0004, data(TOKEN) + text("found by the scanner")), answer(REVOKED)),
    "exchange": (request(0x0005, data(TOKEN) + items([data(DISCHARGE)]) + items([data(b'host = "h"')]) + u8(1) + TIME
                         + maybe(name("job"))),
                 answer(data(TOKEN) + LINEAGE + PARENT + KEY + TIME)),
    "fetch-keys": (request(0x0006, data(b"")),
                   answer(page([KEY + name("acme") + name("billing") + u32(4) + u8(0) + SECRET + SECRET2], b"go on"))),
    "revoke-preview": (request(0x0007, u8(4) + name("acme") + name("user:17") + u8(0)),
                       answer(u8(4) + data(ROW) + u8(0) + maybe(TIME) + maybe(TIME) + maybe(None) + u8(1)
                              + b"".join(u64(n) for n in (10, 4, 3, 2, 1)))),
    "revoke-preview token": (request(0x0007, u8(1) + LINEAGE),
                             answer(u8(1) + data(LINEAGE) + u8(1) + maybe(None) + maybe(None) + maybe(TIME) + u8(0)
                                    + b"".join(u64(n) for n in (0, 0, 0, 1, 0)))),
    "revoke-preview everything": (request(0x0007, u8(6) + u8(1) + TIME), error(0x020C, "a floor may not lie in the future")),
    "status": (request(0x0100, b""),
               answer(text("0.1.0") + FEED + CLIENT + maybe(SECRET2) + u8(0) + TIME + TIME + POSITION + TIME + TIME + u64(2) + TIME
                      + b"".join(u64(n) for n in (1, 2, 3, 4, 5)) + SECRET + u32(1) + KEY + text("dumps: off") + text(""))),
    "key-create": (request(0x0110, name("acme") + maybe(name("billing")) + u8(1)), answer(KEY_INFO)),
    "key-list": (request(0x0111, maybe(name("acme")) + data(b"go on")), answer(page([KEY_INFO]))),
    "key-rotate": (request(0x0112, KEY), answer(KEY_INFO)),
    "key-retire": (request(0x0113, KEY), error(0x0207, "no such key")),
    "static-rotate": (request(0x0114, b""), answer(CLIENT + maybe(SECRET2))),
    "static-retire": (request(0x0115, SECRET2), answer(CLIENT + maybe(None))),
    "publication-prepare": (request(0x0117, u8(1)), answer(u64(3) + data(b"to sign"))),
    "publication-rotate": (request(0x0118, data(b"signed")), answer(b"")),
    "client-add": (request(0x0120, CLIENT + name("issuer") + MINT_ROLE + maybe(TIME)), answer(CLIENT_INFO)),
    "client-list": (request(0x0121, data(b"")), answer(page([CLIENT_INFO]))),
    "client-remove": (request(0x0122, CLIENT), answer(b"")),
    "client-confirm": (request(0x0123, CLIENT), error(0x0301, "", 250)),
    "token-list": (request(0x0130, maybe(name("acme")) + maybe(None) + maybe(PARENT) + data(b"")), answer(page([ENTRY]))),
    "token-show": (request(0x0131, LINEAGE), answer(ENTRY)),
    "audit-tail": (request(0x0140, u64(7) + data(b"")), answer(page([u64(7) + data(b"{}") + SECRET]))),
    "audit-prune": (request(0x0141, u64(700)), answer(u64(420) + u64(512))),
    "rewrap": (request(0x0150, data(SECRET)), answer(KEY + u64(12))),
}


def main():
    client, client_ephemeral = bytes([1] * 32), bytes([2] * 32)
    server, server_ephemeral = bytes([3] * 32), bytes([4] * 32)
    session, prologue = bytes(range(0x80, 0x90)), b"tk-rpc\x01"
    first, second, (to_server, to_client) = noise(client, client_ephemeral, server, server_ephemeral, prologue)
    calls = []
    for number, operation in ((0, "verify"), (1, "mint"), (2**48 - 1, "key-retire")):
        asked, told = MESSAGES[operation]
        calls.append({
            "operation": operation,
            "number": number,
            "request_body": (b"\x01" + session + u64(number) + encrypt(to_server, number, b"", asked)).hex(),
            "answer_body": (b"\x01\x00" + u64(number) + encrypt(to_client, number, b"", told)).hex(),
        })
    print(json.dumps({
        "rules": "docs/spec/protocol.md: PR-2, PR-3, PR-6, PR-7, PR-8, PR-10, PR-11, PR-20 to PR-27, PR-30 to PR-43",
        "handshake": {
            "client_private": client.hex(), "client_ephemeral": client_ephemeral.hex(),
            "server_private": server.hex(), "server_ephemeral": server_ephemeral.hex(),
            "server_public": public(server).hex(), "session": session.hex(),
            "request_body": (b"\x01" + first).hex(),
            "answer_body": (b"\x01\x00" + session + second).hex(),
        },
        "calls": calls,
        "messages": [{"name": n, "request": q.hex(), "answer": a.hex()} for n, (q, a) in MESSAGES.items()],
        "refusals": {"session": "0101", "handshake": "0102", "busy": "0103", "version": "01040101", "body": "0105"},
    }, indent=1))


if __name__ == "__main__":
    main()
