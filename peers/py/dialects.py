#!/usr/bin/env python3
"""Caveats and tokens made by pypitoken and by macaroonbakery, with the answers these libraries give.

`dialects.py CASES.jsonl SEED N` writes cases for tkcore's clearing runner: N requests a library,
each judged by the library's own code. `dialects.py --tokens FILE.json` writes whole tokens with
their keys, for a test of tkcore that verifies them as well.
"""

import datetime
import json
import random
import sys

import macaroonbakery.bakery as bakery
import macaroonbakery.checkers as checkers
import pymacaroons
import pypitoken

NOW = 1795435200  # 2026-11-23T12:00:00Z
KEY = "a key of the macaroons' maker"
# pypitoken takes nothing but UUIDs for the ids of projects and users.
ID_A, ID_B = "00000000-1111-2222-3333-444444444444", "00000000-1111-2222-3333-55555555aaaa"


def text_of(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def case(name, dialect, caveats, facts, expect, now=NOW, actions=("upload",)):
    return {
        "name": name, "dialect": dialect, "caveats": caveats, "expect": "admit" if expect else "refuse",
        "request": {"tenant": "peers", "actions": list(actions), "now": text_of(now), "facts": facts},
    }


def pypi(chance):
    """One token, restricted in up to three ways, and a request."""
    token = pypitoken.Token.create(domain="pypi.org", identifier="peer", key=KEY)
    for _ in range(chance.randint(1, 3)):
        start = NOW + chance.choice([-100, 0, 100])
        ways = [
            {"not_before": start, "not_after": start + chance.choice([50, 100, 200])},
            {"project_names": chance.sample(["a", "b", "c"], chance.randint(1, 2))},
            {"project_ids": chance.sample([ID_A, ID_B], 1)},
            {"user_id": chance.choice([ID_A, ID_B])},
            {"legacy_not_before": start, "legacy_not_after": start + 100},
            {"legacy_project_names": chance.sample(["a", "b", "c"], 2)},
            {"legacy_noop": True},
        ]
        token.restrict(**chance.choice(ways))
    project, project_id, user = chance.choice(["a", "b"]), chance.choice([ID_A, ID_B]), chance.choice([ID_A, ID_B])
    now = NOW + chance.choice([-100, 0, 50, 99, 100])
    try:
        token.check(KEY, project_name=project, project_id=project_id, user_id=user, now=now)
        admits = True
    # Its own error handling fails when two caveats refuse.
    except (pypitoken.ValidationError, ValueError):
        admits = False
    facts = {"project": {"text": project}, "project-id": {"text": project_id}, "user": {"text": user}}
    caveats = [caveat.caveat_id_bytes.decode() for caveat in token._macaroon.caveats]
    return token.dump(), caveats, facts, now, admits


class Clock:
    def __init__(self, seconds):
        self.seconds = seconds

    def utcnow(self):
        return datetime.datetime.fromtimestamp(self.seconds, datetime.timezone.utc).replace(tzinfo=None)


def bakery_case(chance):
    """One macaroon of the bakery with up to three conditions, and a request."""
    version = chance.choice([bakery.VERSION_1, bakery.VERSION_2])
    macaroon = bakery.Macaroon(KEY.encode(), b"peer", "here", version)
    for _ in range(chance.randint(1, 3)):
        end = datetime.datetime.fromtimestamp(NOW + chance.choice([-1, 0, 1, 100]), datetime.timezone.utc)
        macaroon.add_caveat(
            chance.choice([
                checkers.time_before_caveat(end + datetime.timedelta(microseconds=chance.choice([0, 1, 500_000]))),
                checkers.declared_caveat("username", chance.choice(["bob", "bob smith", ""])),
                checkers.allow_caveat(chance.sample(["read", "write", "list"], chance.randint(1, 2))),
                checkers.deny_caveat(chance.sample(["read", "write", "list"], 1)),
                checkers.declared_caveat("not possible", "x") if chance.random() < 0.2 else checkers.allow_caveat(["read", "write"]),
            ])
        )
    username = chance.choice(["bob", "bob smith", ""])
    actions = chance.choice([["read"], ["read", "write"], ["list"]])
    conditions = [caveat.caveat_id_bytes.decode() for caveat in macaroon.macaroon.caveats]
    context = checkers.context_with_clock(checkers.AuthContext(), Clock(NOW))
    context = checkers.context_with_operations(context, actions)
    context = checkers.context_with_declared(context, {"username": username})
    checker = checkers.Checker()
    admits = all(checker.check_first_party_caveat(context, condition) is None for condition in conditions)
    return macaroon.macaroon.serialize(), conditions, {"username": {"text": username}}, actions, admits


def main():
    if sys.argv[1] == "--tokens":
        chance = random.Random(7)
        cases = []
        for number in range(20):
            token, caveats, facts, now, admits = pypi(chance)
            cases.append({**case(f"pypitoken-{number}", "pypi", caveats, facts, admits, now), "key": KEY, "token": token.removeprefix("pypi-")})
            token, caveats, facts, actions, admits = bakery_case(chance)
            cases.append({**case(f"macaroonbakery-{number}", "bakery", caveats, facts, admits, actions=actions), "key": KEY, "token": token})
        with open(sys.argv[2], "w") as to:
            to.write("[\n" + ",\n".join(json.dumps(one) for one in cases) + "\n]\n")
        return
    to, seed, count = open(sys.argv[1], "w"), int(sys.argv[2]), int(sys.argv[3])
    chance = random.Random(seed)
    admitted = 0
    for number in range(count):
        _, caveats, facts, now, admits = pypi(chance)
        admitted += admits
        to.write(json.dumps(case(f"pypitoken-{number}", "pypi", caveats, facts, admits, now)) + "\n")
        _, caveats, facts, actions, admits = bakery_case(chance)
        admitted += admits
        to.write(json.dumps(case(f"macaroonbakery-{number}", "bakery", caveats, facts, admits, actions=actions)) + "\n")
    print(f"{2 * count} cases, {admitted} admitted by their libraries")


if __name__ == "__main__":
    assert pymacaroons  # both libraries stand on it
    main()
