"""Drives three macaroon libraries that are not ours, in both directions.

`cases.py OURS OUT [SEED] [N]`: OURS is the program `ours` of this workspace; the cases that our
conformance runner has to judge are written to OUT. Exits with 1 when a library refuses what we
made, or accepts what it should not.
"""

import base64
import collections
import hashlib
import hmac
import json
import os
import random
import subprocess
import sys

import clib
import pylib

HERE = os.path.dirname(os.path.abspath(__file__))
ODD = [b"a = 1", b"tab\tnl\n", b'quote " \\ back', b"null\0byte", "grüße".encode(), "権限 = 読む".encode(),
       "\u202eabc".encode(), b"time < 2031-01-01T00:00:00Z", b"ip in 10.0.0.0/8", b"long " + b"x" * 300]
RAW = [b"\xff\xfe", b"\x80\x81\x82", b"\n\xf0"]
LOCATIONS = ["https://svc.example", "https://müller.example/ä", "loc with space", "x" * 200, "y"]


class Npm:
    """The npm package, in a process of its own."""

    NAME = "npm-macaroon-3.0.4"

    def __init__(self):
        self.process = subprocess.Popen(["node", os.path.join(HERE, "npm.js")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, encoding="utf-8")

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def judge(self, raw, discharges, key, predicates):
        return self.ask(do="judge", root=raw.hex(), discharges=[d.hex() for d in discharges], key=key.hex(),
                        predicates=[p.hex() for p in predicates])["said"]


def c_judge(raw, discharges, key, predicates):
    try:
        macaroon, others = clib.Macaroon.read(raw), [clib.Macaroon.read(one) for one in discharges]
    except clib.NoMacaroon:
        return "parse_error"
    return "accept" if macaroon.verify(key, others, predicates) else "reject"


def is_text(raw):
    try:
        raw.decode("utf-8")
        return True
    except UnicodeDecodeError:
        return False


class Made:
    """What one library made: its bytes and everything that belongs to them."""

    def __init__(self, maker, form, key, root, discharges, unbound, holds, signature):
        self.maker, self.form, self.key, self.root = maker, form, key, root
        self.discharges, self.unbound, self.holds, self.signature = discharges, unbound, holds, signature
        self.judges = None  # the libraries that accept it unchanged, so that their word counts


def specification(rng, depth, counter, form):
    """A macaroon to be made, as plain data."""
    odd = ODD + ([] if form == "V1" else RAW)
    ident = rng.choice(odd) + b"#%d" % next(counter)
    spec = {"key": rng.randbytes(rng.choice([1, 16, 32, 32, 64, 100])), "id": ident,
            "location": rng.choice(LOCATIONS), "caveats": []}
    for _ in range(rng.randrange(5)):
        if depth and rng.random() < 0.35:
            spec["caveats"].append(("third", specification(rng, depth - 1, counter, form)))
        else:
            spec["caveats"].append(("first", rng.choice(odd)))
    return spec


def flat(spec):
    found = []
    for kind, what in spec["caveats"]:
        if kind == "third":
            found += [what] + flat(what)
    return found


def texts(spec):
    """Every text of a specification, discharges' included."""
    found = [spec["id"], spec["location"].encode()]
    for kind, what in spec["caveats"]:
        found += [what] if kind == "first" else texts(what)
    return found


def ascii(raw):
    return all(byte < 128 for byte in raw)


def predicates(spec):
    found = []
    for kind, what in spec["caveats"]:
        found += [what] if kind == "first" else predicates(what)
    return found


def by_c(spec):
    def make(s):
        m = clib.Macaroon.create(s["location"].encode(), s["key"], s["id"])
        for kind, what in s["caveats"]:
            m = m.first(what) if kind == "first" else m.third(b"https://tp.example", what["key"], what["id"])
        return m
    root, unbound = make(spec), [make(s) for s in flat(spec)]
    return root.write(), [root.bind(d).write() for d in unbound], [d.write() for d in unbound], None


def by_py(spec, form):
    def make(s):
        m = pylib.create(s["location"], s["key"], s["id"], form)
        for kind, what in s["caveats"]:
            if kind == "first":
                m.add_first_party_caveat(what)
            else:
                m.add_third_party_caveat("https://tp.example", what["key"], what["id"])
        return m
    root, unbound = make(spec), [make(s) for s in flat(spec)]
    bound = [root.prepare_for_request(d) for d in unbound]
    write = lambda m: pylib.write(m, form)
    return write(root), [write(d) for d in bound], [write(d) for d in unbound], pylib.signature(root)


def by_npm(npm, spec, form):
    def plain(s):
        steps = [{"id": what.hex()} if kind == "first" else
                 {"id": what["id"].hex(), "key": what["key"].hex(), "location": "https://tp.example"}
                 for kind, what in s["caveats"]]
        return {"key": s["key"].hex(), "id": s["id"].hex(), "location": s["location"], "caveats": steps}
    answer = npm.ask(do="make", root=plain(spec), discharges=[plain(s) for s in flat(spec)], format=form)
    if "error" in answer:
        raise RuntimeError(answer["error"])
    un = lambda texts: [bytes.fromhex(text) for text in texts]
    return (bytes.fromhex(answer["root"]), un(answer["discharges"]), un(answer["unbound"]),
            bytes.fromhex(answer["signature"]))


def b64(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Cases:
    def __init__(self, out, npm):
        self.out, self.npm, self.count, self.kinds = out, npm, 0, collections.Counter()

    def add(self, kind, made, expect, root=None, discharges=None, key=None, holds=None):
        key = made.key if key is None else key
        derived = hmac.new(b"macaroons-key-generator", key, hashlib.sha256).hexdigest()
        case = {"name": f"{kind}-{self.count:05}", "kind": kind, "source_impl": made.maker, "format": made.form,
                "token": b64(made.root if root is None else root),
                "discharges": [b64(d) for d in (made.discharges if discharges is None else discharges)],
                "root_key_hex": key.hex(), "derived_key_hex": derived,
                "first_party_predicates_satisfied": [b64(p) for p in (made.holds if holds is None else holds)],
                "expect": expect}
        if made.signature:
            case["signature_hex"] = made.signature.hex()
        self.out.write(json.dumps(case) + "\n")
        self.count += 1
        self.kinds[f"{made.maker} {made.form} {kind}: {expect}"] += 1

    def consensus(self, made, root, discharges):
        """What every other library that reads the format says; None when they differ."""
        if made.judges is None:
            second = c_judge if made.form == "V1" else self.npm.judge
            made.judges = [judge for judge in (pylib.judge, second)
                           if judge(made.root, made.discharges, made.key, made.holds) == "accept"]
        said = {judge(root, discharges, made.key, made.holds) for judge in made.judges}
        if not said:
            return None
        if "accept" in said:
            return "accept" if said == {"accept"} else None
        # Refused by parsing here and by verification there: either is right.
        return "parse_error" if said == {"parse_error"} else "reject"


def mutations(rng, cases, made, other):
    """Everything that must not get in, and what gets in although it was changed."""
    if made.discharges:
        cases.add("missing-discharge", made, "reject", discharges=made.discharges[1:])
        cases.add("unbound-discharge", made, "reject", discharges=made.unbound)
        cases.add("discharge-order-reversed", made, "accept", discharges=made.discharges[::-1])
    if made.holds:
        gone = rng.choice(made.holds)
        cases.add("unsatisfied", made, "reject", holds=[p for p in made.holds if p != gone])
    cases.add("wrong-key", made, "reject", key=made.key[:-1] + bytes([made.key[-1] ^ 1]))
    derived = hmac.new(b"macaroons-key-generator", made.key, hashlib.sha256).digest()
    cases.add("derived-key-as-raw", made, "reject", key=derived)
    if other and other.discharges and made.discharges:
        cases.add("bound-to-other-root", made, "reject", discharges=other.discharges)
    for kind in ("bitflip", "bitflip", "bitflip", "truncate"):
        raw, which = bytearray(made.root), None
        if made.discharges and rng.random() < 0.3:
            which = rng.randrange(len(made.discharges))
            raw = bytearray(made.discharges[which])
        if kind == "bitflip":
            bit = rng.randrange(len(raw) * 8)
            raw[bit // 8] ^= 1 << (bit % 8)
        else:
            del raw[rng.randrange(len(raw)):]
        discharges = list(made.discharges)
        root = bytes(raw) if which is None else made.root
        if which is not None:
            discharges[which] = bytes(raw)
        expect = cases.consensus(made, root, discharges)
        if expect is None:
            cases.kinds[f"{made.maker} {made.form} {kind}: left out, the others differ"] += 1
        else:
            cases.add(kind if which is None else f"discharge-{kind}", made, expect, root=root, discharges=discharges)


def theirs(rng, cases, npm, count):
    makers = [("V1", clib.NAME, by_c), ("V1", pylib.NAME, lambda s: by_py(s, "V1")),
              ("V2", pylib.NAME, lambda s: by_py(s, "V2")), ("V2JSON", pylib.NAME, lambda s: by_py(s, "V2JSON")),
              ("V2", Npm.NAME, lambda s: by_npm(npm, s, "V2")), ("V2JSON", Npm.NAME, lambda s: by_npm(npm, s, "V2JSON"))]
    for form, name, make in makers:
        other = None
        for _ in range(count):
            spec = specification(rng, 2, iter(range(1, 1000)), form)
            if name == pylib.NAME and not all(is_text(p) for p in [spec["id"]] + predicates(spec)):
                spec = specification(rng, 2, iter(range(1, 1000)), "V1")
            try:
                root, discharges, unbound, signature = make(spec)
            except RuntimeError as error:  # the npm package computes a buffer's growth wrongly
                cases.kinds[f"{name} {form}: cannot make it: {str(error)[:30]}"] += 1
                continue
            made = Made(name, form, spec["key"], root, discharges, unbound, predicates(spec), signature)
            if name == pylib.NAME and form == "V1" and not all(ascii(raw) for raw in texts(spec)):
                if c_judge(root, discharges, made.key, made.holds) != "accept":
                    # Its packets announce a length in characters, which nobody can read.
                    cases.add("length-in-characters", made, "reject")
                    continue
            cases.add("valid", made, "accept")
            mutations(rng, cases, made, other)
            other = made


def ours_to_them(rng, cases, npm, program, seed, count):
    """Ours verified by them, and ours attenuated by them."""
    lines = subprocess.run([program, str(seed), str(count)], check=True, capture_output=True, text=True).stdout
    wrong, done, left = [], collections.Counter(), collections.Counter()
    for number, line in enumerate(lines.splitlines()):
        token = json.loads(line)
        key = bytes.fromhex(token["key"])
        holds = [bytes.fromhex(p) for p in token["predicates"]]
        for form, sent in token["formats"].items():
            if sent is None:
                continue
            root = bytes.fromhex(sent["root"])
            bound, unbound = ([bytes.fromhex(d) for d in sent[name]] for name in ("discharges", "unbound"))
            peers = [(clib.NAME, c_judge)] if form == "V1" else [(Npm.NAME, npm.judge)]
            peers.append((pylib.NAME, pylib.judge))
            for name, judge in peers:
                why = unable(name, form, root, bound, holds)
                if why:
                    left[f"{name}: {why}"] += 1
                    continue
                said = judge(root, bound, key, holds)
                done[f"{name} {form} verifies ours"] += 1
                if said != "accept":
                    wrong.append(f"token {number} {form}: {name} says {said}")
                if holds:
                    gone = rng.choice(holds)
                    said = judge(root, bound, key, [p for p in holds if p != gone])
                    done[f"{name} {form} refuses ours"] += 1
                    if said == "accept":
                        wrong.append(f"token {number} {form}: {name} accepts without a predicate")
                added = b"added = %d" % rng.randrange(1000)
                try:
                    after, discharges = attenuated(npm, name, form, root, unbound, added)
                except Exception as error:  # each library has exceptions of its own
                    if "Invalid typed array length" in str(error):
                        left[f"{name}: its V2 writer computes a buffer's growth wrongly"] += 1
                        continue
                    wrong.append(f"token {number} {form}: {name} cannot attenuate: {error!r}")
                    continue
                made = Made(name, form, key, after, discharges, [], holds + [added], None)
                cases.add("ours-attenuated", made, "accept")
                cases.add("ours-attenuated-unsatisfied", made, "reject", holds=[p for p in holds if p != added])
    return wrong, done, left


def unable(name, form, root, discharges, holds):
    """Why this library cannot take this token; each line is a fault or a limit of the peer."""
    every = [root] + discharges
    if name != clib.NAME and not all(is_text(p) for p in holds):
        return "predicates that are not text"
    if name == pylib.NAME and form == "V1" and not all(ascii(part) for raw in every for part in fields(raw)):
        return "lengths in V1 are counted in characters"
    if name == pylib.NAME and form == "V2JSON" and any(b'"i":""' in raw for raw in every):
        return "an empty caveat in JSON is written without its text"
    if name == Npm.NAME and any(b"\xef\xbb\xbf" in raw for raw in every):
        return "a byte order mark is dropped"
    return None


def fields(raw):
    """The values of V1 packets, signature and sealed keys left out."""
    while raw:
        size = int(raw[:4], 16)
        name, _, value = raw[4:size - 1].partition(b" ")
        if name in (b"location", b"identifier", b"cid", b"cl"):
            yield value
        raw = raw[size:]


def attenuated(npm, name, form, root, unbound, added):
    if name == clib.NAME:
        m = clib.Macaroon.read(root).first(added)
        return m.write(), [m.bind(clib.Macaroon.read(d)).write() for d in unbound]
    if name == pylib.NAME:
        m = pylib.read(root)
        m.add_first_party_caveat(added)
        return pylib.write(m, form), [pylib.write(m.prepare_for_request(pylib.read(d)), form) for d in unbound]
    answer = npm.ask(do="attenuate", root=root.hex(), steps=[{"id": added.hex()}], format=form)
    if "error" in answer:
        raise RuntimeError(answer["error"])
    bound = npm.ask(do="bind", root=answer["root"], discharges=[d.hex() for d in unbound], format=form)
    if "error" in bound:
        raise RuntimeError(bound["error"])
    return bytes.fromhex(answer["root"]), [bytes.fromhex(d) for d in bound["discharges"]]


def main():
    program, path = sys.argv[1:3]
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 20261123
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 40
    rng, npm = random.Random(seed), Npm()
    with open(path, "w", encoding="utf-8") as out:
        cases = Cases(out, npm)
        theirs(rng, cases, npm, count)
        wrong, done, left = ours_to_them(rng, cases, npm, program, seed, count * 3)
    npm.process.stdin.close()
    npm.process.wait()
    for what, times in sorted((cases.kinds + done).items()):
        print(f"{times:6} {what}")
    for what, times in sorted(left.items()):
        print(f"{times:6} not asked of {what}")
    for line in wrong[:40]:
        print("WRONG", line)
    judged = sum(done.values())
    print(f"{cases.count} cases written, {judged} judged by the others")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
