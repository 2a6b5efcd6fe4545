#!/usr/bin/env python3
"""A second client of docs/spec/protocol.md, written from that page and the Noise specification,
with nothing but the standard library (its cryptography is that of protocol.py beside it).

Without arguments it plays the client of vectors/protocol.json: the same handshake, the same
calls, the recorded answers opened.

With `URL SERVER-KEY KEY-FILE` (64 hexadecimal digits each; the file holds the private key) it
talks to a real signer: reads lines `verify TOKEN` (V2, hexadecimal), `replay`, `forbidden` from
its input, and prints what it understood, a JSON object a line.
"""

import http.client
import hmac
import json
import os
import pathlib
import struct
import sys
import urllib.parse

import protocol as p

VERSION = b"\x01"
PROLOGUE = b"tk-rpc" + VERSION  # PR-2


def decrypt(key, number, associated, sealed):
    cipher, tag = sealed[:-16], sealed[-16:]
    nonce = bytes(4) + struct.pack("<Q", number)
    lengths = struct.pack("<QQ", len(associated), len(cipher))
    mac_data = p.pad16(associated) + p.pad16(cipher) + lengths
    if not hmac.compare_digest(p.poly1305(p.chacha_block(key, 0, nonce)[:32], mac_data), tag):
        raise ValueError("not authentic")
    return p.chacha(key, 1, nonce, cipher)


class Initiator:
    """PR-10: the client's half of Noise IK; unlike protocol.noise it never sees the server's keys."""

    def __init__(self, private, ephemeral, pinned):
        self.private, self.ephemeral = private, ephemeral
        self.state = state = p.Symmetric(PROLOGUE, pinned)
        e = p.public(ephemeral)
        state.mix_hash(e)
        state.mix_key(p.x25519(ephemeral, pinned))
        sealed = state.seal(p.public(private))
        state.mix_key(p.x25519(private, pinned))
        self.message = e + sealed + state.seal(b"")

    def finish(self, answer):
        state, e, sealed = self.state, answer[:32], answer[32:]
        state.mix_hash(e)
        state.mix_key(p.x25519(self.ephemeral, e))
        state.mix_key(p.x25519(self.private, e))
        if decrypt(state.k, state.n, state.h, sealed) != b"":
            raise ValueError("the handshake carries a payload")  # PR-10
        return p.hkdf(state.ck, b"")  # PR-11


def opened_session(body, initiator):
    """PR-3: version 1, kind 0, session id 16, handshake 48."""
    if len(body) != 66 or body[:2] != b"\x01\x00":
        raise ValueError(f"no session: {body.hex()}")
    return body[2:18], initiator.finish(body[18:])


def call_body(session, key, number, payload):
    return VERSION + session + p.u64(number) + p.encrypt(key, number, b"", payload)


def answer_payload(body, key, number):
    """PR-7, PR-9: only under the request's number."""
    if body[:2] != b"\x01\x00" or body[2:10] != p.u64(number):
        raise ValueError(f"refused: {body.hex()}")
    return decrypt(key, number, b"", body[10:])


class Reader:
    """Field types, PR-20 to PR-27; `done` keeps PR-4."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def raw(self, count):
        if self.at + count > len(self.data):
            raise ValueError("cut off")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, count):
        return int.from_bytes(self.raw(count), "big")

    def text(self, width):
        return self.raw(self.number(width)).decode()

    def choice(self, *allowed):
        value = self.number(1)
        if value not in allowed:
            raise ValueError("not a choice")
        return value

    def maybe(self, read):
        return read() if self.choice(0, 1) else None

    def done(self, value):
        if self.at != len(self.data):
            raise ValueError("left over")
        return value


def understood(payload):
    """The answer to verify, or an error (section 4 and 5)."""
    reader = Reader(payload)
    if reader.choice(0, 1):
        code, detail = reader.number(2), reader.text(2)
        retry = reader.maybe(lambda: reader.number(4))
        fault = {1: "token", 2: "caller", 3: "moment"}.get(code >> 8, "signer")  # PR-40
        return reader.done({"error": f"{code:04x}", "fault": fault, "detail": detail, "retry": retry})
    facts = {"key": reader.raw(8).hex(), "tenant": reader.text(1)}
    facts["audience"] = reader.maybe(lambda: reader.text(1))
    facts["class"] = reader.choice(0, 1)
    facts["tenant_row"] = reader.raw(16).hex()
    facts["subject_row"] = reader.maybe(lambda: reader.raw(16).hex())
    facts["branches"] = [reader.raw(16).hex() for _ in range(reader.number(2))]
    facts["position"] = [reader.number(8), reader.number(8)]
    return reader.done(facts)


def replay_recorded():
    recorded = json.loads(pathlib.Path(__file__).with_name("protocol.json").read_text())
    shake = {name: bytes.fromhex(value) for name, value in recorded["handshake"].items()}
    initiator = Initiator(shake["client_private"], shake["client_ephemeral"], shake["server_public"])
    assert VERSION + initiator.message == shake["request_body"]
    session, (send, receive) = opened_session(shake["answer_body"], initiator)
    messages = {message["name"]: message for message in recorded["messages"]}
    for call in recorded["calls"]:
        message = messages[call["operation"]]
        body = call_body(session, send, call["number"], bytes.fromhex(message["request"]))
        assert body.hex() == call["request_body"], call["operation"]
        payload = answer_payload(bytes.fromhex(call["answer_body"]), receive, call["number"])
        assert payload.hex() == message["answer"], call["operation"]
    facts = understood(bytes.fromhex(messages["verify"]["answer"]))
    assert facts["tenant"] == "acme" and len(facts["branches"]) == 2, facts
    changed = bytearray(bytes.fromhex(recorded["calls"][0]["answer_body"]))
    changed[-1] ^= 1
    try:
        answer_payload(bytes(changed), receive, 0)
    except ValueError:
        print(f"{len(recorded['calls'])} recorded calls and their handshake, as their client sees them")
    else:
        sys.exit("a changed answer was taken")


class Signer:
    def __init__(self, url, pinned, private):
        where = urllib.parse.urlsplit(url)
        self.connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
        # PR-12: a new ephemeral key for every attempt, numbers counted up from 0.
        initiator = Initiator(private, os.urandom(32), pinned)
        status, body = self.post("/v1/session", VERSION + initiator.message)
        if status != 200:
            self.refused = {"status": status, "body": body.hex()}
            return
        self.refused = None
        self.session, (self.send, self.receive) = opened_session(body, initiator)
        self.next, self.last = 0, None

    def post(self, path, body):
        self.connection.request("POST", path, body, {"content-type": "application/octet-stream"})
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def call(self, operation, params):
        number, self.next = self.next, self.next + 1
        payload = p.u16(operation) + p.u8(0) + os.urandom(16) + params
        self.last = call_body(self.session, self.send, number, payload)
        status, body = self.post("/v1/rpc", self.last)
        if status != 200:
            return {"status": status, "body": body.hex()}
        return understood(answer_payload(body, self.receive, number))

    def replay(self):
        status, body = self.post("/v1/rpc", self.last)
        return {"status": status, "body": body.hex()}


def converse(url, pinned, key_file):
    private = bytes.fromhex(pathlib.Path(key_file).read_text().strip())
    signer = Signer(url, bytes.fromhex(pinned), private)
    if signer.refused:
        print(json.dumps(signer.refused))
        return
    for line in sys.stdin:
        words = line.split()
        if words[0] == "verify":
            token = bytes.fromhex(words[1])
            said = signer.call(0x0001, p.data(token) + p.items([]))
        elif words[0] == "forbidden":
            said = signer.call(0x0100, b"")
        else:
            said = signer.replay()
        print(json.dumps(said))


if __name__ == "__main__":
    if len(sys.argv) == 4:
        converse(*sys.argv[1:])
    else:
        replay_recorded()
