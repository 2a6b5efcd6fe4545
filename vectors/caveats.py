#!/usr/bin/env python3
"""The caveat language and the foreign vocabularies a second time, from docs/spec/caveats.md and
docs/spec/dialects.md alone, and the vectors derived with it.

`caveats.py` writes caveats.json and caveats-dialects.json beside itself; `caveats.py --check`
compares them with what it would write. Standard library only. Nothing here is shared with tkcore,
so that a mistake has to be made twice.

Where a case is built by hand its verdict is written by hand as well (`+` admit, `-` refuse), and a
disagreement with the implementation below ends the program.
"""

import calendar
import datetime
import ipaddress
import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent

# ------------------------------------------------------------------ the language

HIDDEN = re.compile(
    "[\u0080-\u00a0\u00ad\u034f\u061c\u115f-\u1160\u1680\u17b4-\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f"
    "\u205f-\u206f\u2800\u3000\u3164\ue000-\uf8ff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U0010ffff]"
)
QUOTED = r'"(?:[^"\\\x00-\x1f\x7f-\x9f\u2028\u2029]|\\["\\])*"'
BARE = r'[^\x00-\x20\x7f",|\\]+'
BARE_RESOURCE = r'[^\x00-\x20\x7f",|\\:]+'
WORD = rf"(?:{QUOTED}|{BARE})"
RESOURCE = rf"(?:{QUOTED}|{BARE_RESOURCE})"
LIST = rf"{WORD}(?:,{WORD})*"
GRANT = rf"{RESOURCE}:{WORD}(?:\|{WORD})*"
NAME = r"[a-z][a-z0-9._-]{0,63}"
LINE = re.compile(
    rf"({NAME})(\?)? (?:(=|!=|<|<=|>|>=|under) ({WORD})|(in|not-in) ({LIST})|(allows) ({GRANT}(?:,{GRANT})*))"
    rf"(?: else ({LIST}))?"
)
RESERVED = {"time", "action", "tenant", "subject", "audience"}
EPOCH = datetime.datetime(1970, 1, 1)


class Refused(Exception):
    pass


def canonical_int(text):
    if not re.fullmatch(r"0|-?[1-9][0-9]*", text):
        return None
    value = int(text)
    return value if -(2**63) <= value < 2**63 else None


def rfc3339(text):
    found = re.fullmatch(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z", text)
    if not found:
        return None
    year, month, day, hour, minute, second = map(int, found.groups())
    if year < 1970 or not 1 <= month <= 12 or not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    if hour > 23 or minute > 59 or second > 59:
        return None
    delta = datetime.datetime(year, month, day, hour, minute, second) - EPOCH
    return (delta.days * 86400 + delta.seconds) * 1000


def path_ok(text):
    if text == "/":
        return True
    if not text.startswith("/") or re.search(r"[%\\\x00-\x1f\x7f-\x9f]", text):
        return False
    return all(segment not in ("", ".", "..") for segment in text[1:].split("/"))


def bare(word):
    """The types a bare word stands for, and whether it is a network; None: refused."""
    if HIDDEN.search(word):
        return None
    if re.fullmatch(r"[+-]?[0-9]+", word):
        return None if canonical_int(word) is None else ({"text", "int"}, False)
    if word.startswith("/"):
        return ({"path"}, False) if path_ok(word) else None
    if re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]", word):
        return None if rfc3339(word) is None else ({"time"}, False)
    if re.fullmatch(r"[0-9]+(\.[0-9]+){3}(/[0-9./]*)?", word):
        return address(word)
    if ":" in word and word.isascii() and re.fullmatch(r"[0-9A-Fa-f:.]+", re.split("[%/]", word)[0]):
        try:
            ipaddress.IPv6Address(re.split("[%/]", word)[0])
        except ValueError:
            return {"text"}, False
        return address(word)
    return {"text"}, False


def address(word):
    host, slash, length = word.partition("/")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    if str(ip) != host or (ip.version == 6 and ip.ipv4_mapped is not None):
        return None
    if not slash:
        return {"ip"}, False
    if canonical_int(length) is None:
        return None
    try:
        return {"ip"}, ipaddress.ip_network(word, strict=True) is not None
    except ValueError:
        return None


def word_of(raw, resource):
    """(types, network, text) of a word, or Refused."""
    if not raw.startswith('"'):
        what = bare(raw)
        if what is None:
            raise Refused
        return what[0], what[1], raw
    inner = raw[1:-1]
    text = re.sub(r'\\(["\\])', r"\1", inner)
    writable = re.fullmatch(BARE_RESOURCE if resource else BARE, text) and not HIDDEN.search(text)
    if writable:
        what = bare(text)
        if what is not None and "text" in what[0]:
            raise Refused  # needless quotes
        return {"text"}, False, text
    if "\\" not in inner and path_ok(text):
        return {"text", "path"}, False, text
    return {"text"}, False, text


def words(raw, resource=False):
    found = [word_of(one, resource) for one in re.findall(RESOURCE if resource else WORD, raw)]
    texts = [(text, one.startswith('"')) for (_, _, text), one in zip(found, re.findall(WORD, raw))]
    if len(set(texts)) != len(texts):
        raise Refused
    return found


def parse(line):
    if not line or len(line.encode("utf-8", "surrogatepass")) > 4096:
        raise Refused
    found = LINE.fullmatch(line)
    if not found:
        raise Refused
    name, optional, one_op, one, list_op, many, allows, grants, otherwise = found.groups()
    operator = one_op or list_op or allows
    if optional and name in ("time", "action", "tenant"):
        raise Refused
    if otherwise is not None and not optional:
        raise Refused
    kinds = {"text", "int", "time", "ip", "path"}
    if one is not None:
        elements = [word_of(one, False)]
        if elements[0][1]:
            raise Refused
    elif many is not None:
        elements = words(many)
    else:
        elements = []
        for grant in re.findall(GRANT, grants):
            resource = re.match(RESOURCE, grant)[0]
            actions = words(grant[len(resource) + 1 :])
            if any("text" not in types for types, _, _ in actions):
                raise Refused
            elements.append((*word_of(resource, True), {text for _, _, text in actions}))
        if len({(element[2], "text" in element[0]) for element in elements}) != len(elements):
            raise Refused
        if any(element[0] & {"time", "ip"} for element in elements):
            raise Refused
    for element in elements:
        kinds &= element[0]
    allowed = {
        "<": {"int", "time"}, "<=": {"int", "time"}, ">": {"int", "time"}, ">=": {"int", "time"}, "under": {"path"},
    }.get(operator)
    if allowed:
        kinds &= allowed
    if name == "time":
        kinds &= {"time"}
        if operator in ("under", "allows"):
            raise Refused
    elif name in RESERVED:
        kinds &= {"text"}
        if operator in ("<", "<=", ">", ">=", "under") or (name == "action" and operator == "allows"):
            raise Refused
    if not kinds:
        raise Refused
    other = None
    if otherwise is not None:
        listed = words(otherwise)
        if any("text" not in types for types, _, _ in listed):
            raise Refused
        other = {text for _, _, text in listed}
    return name, bool(optional), operator, elements, kinds, other


def native(line, request):
    """Whether the caveat admits; facts are (type, value)."""
    try:
        name, optional, operator, elements, kinds, other = parse(line)
    except Refused:
        return False
    fact = {
        "time": ("time", request["now"]), "action": ("set", request["actions"]), "tenant": ("text", request["tenant"]),
        "subject": None, "audience": None,
    }.get(name, request["facts"].get(name))
    if fact is None or fact == ("set", []):
        if not optional:
            return False
        return other is None or set(request["actions"]) <= other
    kind, value = fact
    values = value if kind == "set" else [value]
    kind = "text" if kind == "set" else kind
    if kind not in kinds:
        return False
    return all(holds(operator, elements, kind, one, request["actions"]) for one in values)


def holds(operator, elements, kind, value, actions):
    def is_(element):
        text = element[2]
        if kind == "int":
            return int(text) == value
        if kind == "time":
            return rfc3339(text) == value
        if kind == "ip":
            if element[1]:
                network = ipaddress.ip_network(text)
                return network.version == value.version and value in network
            return ipaddress.ip_address(text) == value
        return text == value

    if operator in ("=", "in"):
        return any(map(is_, elements))
    if operator in ("!=", "not-in"):
        return not any(map(is_, elements))
    if operator == "under":
        base = elements[0][2].rstrip("/")
        return value == elements[0][2] or value.startswith(base + "/")
    if operator == "allows":
        return any(is_(element) and set(actions) <= element[3] for element in elements)
    if kind not in ("int", "time"):
        return False
    bound = int(elements[0][2]) if kind == "int" else rfc3339(elements[0][2])
    return {"<": value < bound, "<=": value <= bound, ">": value > bound, ">=": value >= bound}[operator]


# ------------------------------------------------------------------ requests

KINDS = {"text", "int", "ip", "path", "time", "set"}


def moment(text):
    found = re.fullmatch(r"(.{19})(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})", text)
    start = rfc3339(found[1] + "Z") if found else None
    if start is None:
        raise Refused
    fraction = int(((found[2] or ".")[1:] + "000")[:3])
    minutes = 0
    if found[3] != "Z":
        hours, rest = int(found[3][1:3]), int(found[3][4:6])
        if hours > 23 or rest > 59:
            raise Refused
        minutes = (hours * 60 + rest) * (1 if found[3][0] == "+" else -1)
    return start + fraction - minutes * 60_000


def stated(request):
    """The request as the second implementation sees it, or Refused (CV-40 to CV-45)."""
    tenant = request.get("tenant", "")
    if not 1 <= len(tenant.encode()) <= 64 or not request.get("actions"):
        raise Refused
    if any(not action or re.search(r"[\x00-\x1f\x7f-\x9f]", action) for action in request["actions"]):
        raise Refused
    facts = {}
    for name, fact in request.get("facts", {}).items():
        if not re.fullmatch(NAME, name) or name in RESERVED or len(fact) != 1:
            raise Refused
        ((kind, value),) = fact.items()
        if kind not in KINDS:
            raise Refused
        if kind == "int" and not -(2**63) <= value < 2**63:
            raise Refused
        if kind == "time":
            value = moment(value)
        if kind == "path" and not path_ok(value):
            raise Refused
        if kind == "ip":
            try:
                value = ipaddress.ip_address(value)
            except ValueError:
                raise Refused
            if getattr(value, "scope_id", None):
                raise Refused
            value = getattr(value, "ipv4_mapped", None) or value
        facts[name] = (kind, value)
    return {"tenant": tenant, "actions": request["actions"], "now": moment(request["now"]), "facts": facts}


# ------------------------------------------------------------------ the foreign vocabularies


def want(request, name, kind):
    fact = request["facts"].get(name)
    if fact is None or fact[0] != kind or fact[1] == []:
        raise Refused
    return fact[1]


def require(condition):
    if not condition:
        raise Refused


def nanoseconds(text, utc_only):
    found = re.fullmatch(r"([0-9-]{10}T[0-9:]{8})(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:[0-9]{2})", text)
    require(found and (found[3] == "Z" or not utc_only))
    millis = moment(found[1] + found[3])
    return millis * 1_000_000 + int((found[2] or "0").ljust(9, "0"))


def plain_ip(text):
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        raise Refused
    require(not getattr(ip, "scope_id", None))
    return getattr(ip, "ipv4_mapped", None) or ip


def network_of(text):
    host, slash, length = text.partition("/")
    require(slash and re.fullmatch(r"[0-9]+", length) and "%" not in host)
    try:
        network = ipaddress.ip_network((host, int(length)), strict=False)
        ip = ipaddress.ip_address(host)
    except ValueError:
        raise Refused
    if ip.version == 6 and ip.ipv4_mapped is not None and int(length) >= 96:
        return ipaddress.ip_network((str(ip.ipv4_mapped), int(length) - 96), strict=False)
    return network


def time_before(argument, request):
    require(request["now"] * 1_000_000 < nanoseconds(argument, False))


def lnd(conditions, request):
    for condition in conditions:
        name, _, argument = condition.partition(" ")
        if name == "time-before":
            time_before(argument, request)
        elif name == "ipaddr":
            require(plain_ip(argument) == want(request, "ip", "ip"))
        elif name == "iprange":
            ip = want(request, "ip", "ip")
            network = network_of(argument)
            require(ip.version == network.version and ip in network)
        elif name == "lnd-custom":
            require(argument and argument.strip() == argument)
            vouched = want(request, "lnd-custom", "set")
            require(argument in vouched or argument.split(" ")[0] in vouched)
        else:
            raise Refused


def bakery(conditions, request):
    for condition in conditions:
        name, _, argument = condition.partition(" ")
        if name == "time-before":
            time_before(argument, request)
        elif name == "declared":
            key, space, value = argument.partition(" ")
            require(space and want(request, key, "text") == value)
        elif name == "allow":
            require(set(request["actions"]) <= set(argument.split()))
        elif name == "deny":
            require(not set(request["actions"]) & set(argument.split()))
        else:
            raise Refused


class Float:
    """A number that is no plain integer; compares with nothing."""


def once(pairs):
    require(len({name for name, _ in pairs}) == len(pairs))
    return dict(pairs)


def no_constant(_):
    raise Refused


def pypi(conditions, request):
    def integer(text):
        return Float() if text == "-0" else int(text)

    def is_int(value):
        return isinstance(value, int) and not isinstance(value, bool)

    def names(value):
        require(isinstance(value, list) and all(isinstance(name, str) for name in value))
        return value

    for condition in conditions:
        try:
            value = json.loads(
                condition, object_pairs_hook=once, parse_float=lambda _: Float(), parse_int=integer, parse_constant=no_constant
            )
        except ValueError:
            raise Refused
        require(not re.search("[\ud800-\udfff]", json.dumps(value, ensure_ascii=False, default=str)))
        now = request["now"] // 1000
        if isinstance(value, dict):
            keys = set(value)
            if keys == {"exp", "nbf"}:
                value = [0, value["exp"], value["nbf"]]
            elif keys == {"project_ids"}:
                value = [2, value["project_ids"]]
            elif keys == {"version", "permissions"}:
                require(is_int(value["version"]) and value["version"] == 1)
                if value["permissions"] == "user":
                    want(request, "user", "text")
                    continue
                require(isinstance(value["permissions"], dict) and set(value["permissions"]) == {"projects"})
                value = [1, value["permissions"]["projects"]]
            else:
                raise Refused
        require(isinstance(value, list) and value and is_int(value[0]))
        tag, *rest = value
        if tag == 0:
            require(len(rest) == 2 and all(map(is_int, rest)) and rest[1] <= now < rest[0])
        elif tag == 1:
            require(len(rest) == 1 and want(request, "project", "text") in names(rest[0]))
        elif tag == 2:
            require(len(rest) == 1 and want(request, "project-id", "text") in names(rest[0]))
        elif tag == 3:
            require(len(rest) == 1 and isinstance(rest[0], str) and want(request, "user", "text") == rest[0])
        elif tag == 4:
            require(1 <= len(rest) <= 2 and isinstance(rest[0], str))
            if len(rest) == 2 and rest[1] is not None:
                claims = rest[1]
                require(isinstance(claims, dict) and set(claims) == {"ref", "sha"})
                require(all(isinstance(claim, str) for claim in claims.values()))
            require(want(request, "publisher", "text") == rest[0])
            require(any(request["facts"].get(fact, ("",))[0] == "text" for fact in ("project", "project-id")))
        else:
            raise Refused


ACTIVITIES = {"LIST", "DOWNLOAD", "MANAGE", "UPLOAD", "DELETE", "READ_METADATA", "UPDATE_METADATA", "STAGE"}


def below(path):
    """Segments of a path that is taken relative, `..` held inside."""
    done = []
    for segment in path.split("/"):
        if segment == "..":
            done = done[:-1]
        elif segment not in ("", "."):
            done.append(segment)
    return done


def dcache(conditions, request):
    root, visible, activities, once_only = [], [], ACTIVITIES, set()
    for condition in conditions:
        key, colon, value = condition.partition(":")
        require(colon)
        if key == "before":
            require(request["now"] * 1_000_000 <= nanoseconds(value, True))
        elif key == "path":
            visible = visible + below(value)
        elif key == "root":
            delta = below(value)
            common = min(len(delta), len(visible))
            require(delta[:common] == visible[:common])
            root, visible = root + delta, visible[common:]
        elif key == "home":
            pass
        elif key == "activity":
            listed = {name.strip() for name in value.split(",")}
            require(listed <= activities)
            activities = listed
            require(set(request["actions"]) <= listed | {"READ_METADATA"})
        elif key == "ip":
            client = want(request, "ip", "ip")
            nets = [net.strip() for net in value.split(",") if net.strip()]
            nets = [network_of(net) if "/" in net else plain_ip(net) for net in nets]
            require(any(client == net if not hasattr(net, "hosts") else client.version == net.version and client in net for net in nets))
        elif key == "max-upload":
            require(re.fullmatch(r"[0-9]+", value) and 0 < int(value) < 2**63)
            if "UPLOAD" in request["actions"] or "upload-size" in request["facts"]:
                require(0 <= want(request, "upload-size", "int") <= int(value))
        elif key in ("id", "iid"):
            require(key not in once_only)
            once_only.add(key)
            require(key == "iid" or re.fullmatch(r"[0-9]+;[0-9]+(,[0-9]+)*;\s*\S.*", value))
        else:
            raise Refused
        if root or visible:
            at = below(want(request, "path", "path"))
            require(at[: len(root)] == root)
            rest = at[len(root) :]
            on_the_way = visible[: len(rest)] == rest and set(request["actions"]) == {"READ_METADATA"}
            require(rest[: len(visible)] == visible or on_the_way)


def l402(conditions, request):
    named, services, scoped = False, None, {}
    for condition in conditions:
        key, equals, value = condition.partition("=")
        require(equals)
        suffix = next((suffix for suffix in ("_capabilities", "_valid_until") if key.endswith(suffix)), None)
        if key == "services":
            listed = {}
            for service in value.split(","):
                name, _, tier = service.partition(":")
                require(name and name not in listed and canonical_int(tier) is not None and 0 <= int(tier) <= 255)
                listed[name] = int(tier)
            require(services is None or set(listed) <= services)
            require(want(request, "service", "text") in listed)
            if "tier" in request["facts"]:
                require(want(request, "tier", "int") == listed[want(request, "service", "text")])
            services, named = set(listed), True
        elif suffix:
            ours = want(request, "service", "text") == key[: -len(suffix)]
            require(ours or named)
            if suffix == "_capabilities":
                listed = set(value.split(","))
                require(listed <= scoped.get(key, listed))
                if ours:
                    kind, wanted = request["facts"].get("capability", ("", []))
                    wanted = [wanted] if kind == "text" else wanted if kind == "set" else []
                    require(wanted and "" not in wanted and set(wanted) <= listed)
                scoped[key] = listed
            else:
                until = canonical_int(value)
                require(until is not None and until <= scoped.get(key, until))
                require(not ours or request["now"] // 1000 < until)
                scoped[key] = until
        else:
            raise Refused


FOREIGN = {"lnd": lnd, "pypi": pypi, "dcache": dcache, "bakery": bakery, "l402": l402}


def verdict(case):
    try:
        request = stated(case["request"])
        if case["dialect"] == "native":
            return all(native(line, request) for line in case["caveats"])
        FOREIGN[case["dialect"]](case["caveats"], request)
        return True
    except Refused:
        return False


# ------------------------------------------------------------------ the vectors

NOW = "2026-11-23T12:00:00Z"


def request(facts=None, actions=("read",), now=NOW, tenant="acme"):
    return {"tenant": tenant, "actions": list(actions), "now": now, "facts": facts or {}}


class Vectors:
    def __init__(self):
        self.cases = []

    def add(self, rules, dialect, caveats, asked, expect=None):
        case = {
            "name": f"{dialect}-{len(self.cases):04}", "rules": rules.split(), "dialect": dialect,
            "caveats": [caveats] if isinstance(caveats, str) else list(caveats), "request": asked,
        }
        derived = "admit" if verdict(case) else "refuse"
        by_hand = {"+": "admit", "-": "refuse", None: derived}[expect]
        if by_hand != derived:
            sys.exit(f"written {by_hand}, derived {derived}: {json.dumps(case, ensure_ascii=False)}")
        self.cases.append({**case, "expect": derived})


FACTS = {
    "text": ({"text": "build"}, ["build", "other", '"two words"']),
    "digits": ({"text": "17"}, ["17", "18", "-17"]),
    "int": ({"int": 17}, ["17", "18", "16", "-17", "word"]),
    "time": ({"time": "2026-12-01T00:00:00Z"}, ["2026-12-01T00:00:00Z", "2026-12-01T00:00:01Z", "2026-11-30T23:59:59Z"]),
    "ip": ({"ip": "10.1.2.3"}, ["10.1.2.3", "10.1.2.4", "2001:db8::1"]),
    "path": ({"path": "/projects/7/a"}, ["/projects/7/a", "/projects/7", "/projects/77", "/"]),
    "set": ({"set": ["17", "42"]}, ["17", "42", "other"]),
    "set of one": ({"set": ["build"]}, ["build", "other"]),
    "empty set": ({"set": []}, ["build"]),
    "nothing": (None, ["build", "17", "/a", "10.0.0.0", "2026-12-01T00:00:00Z"]),
}
LISTS = ["17,42", "build,other", "10.0.0.0/8,2001:db8::/32", "10.1.2.3,192.0.2.0/24", "/projects/7/a,/x",
         "2026-12-01T00:00:00Z,2027-12-01T00:00:00Z", "7,build", "18", "17"]
GRANTS = ["17:read|write,42:read", "build:read", "build:write", "17:read", "/projects/7/a:read", '"two words":read']
ABSENT = {"=": "CV-50", "!=": "CV-50", "<": "CV-51", "<=": "CV-51", ">": "CV-51", ">=": "CV-51", "in": "CV-52",
          "not-in": "CV-52", "under": "CV-53", "allows": "CV-54"}


def truth_tables(vectors):
    for operator, rule in ABSENT.items():
        for name, (fact, values) in FACTS.items():
            absent = name in ("nothing", "empty set")
            if operator in ("in", "not-in"):
                values = LISTS
            if operator == "allows":
                values = GRANTS
            facts = {} if fact is None else {"x": fact}
            for value in values:
                rules = "CV-60" if absent else rule
                if name == "empty set" or name.startswith("set"):
                    rules += " CV-45"
                vectors.add(rules, "native", f"x {operator} {value}", request(facts))
            value = values[0]
            rules = "CV-61" if absent else "CV-61 " + rule
            vectors.add(rules, "native", f"x? {operator} {value}", request(facts))
            for actions in (["read"], ["read", "list"]):
                vectors.add("CV-62 CV-14", "native", f"x? {operator} {value} else read,stat", request(facts, actions))
    for kind, (fact, _) in FACTS.items():
        if fact is None:
            continue
        for value in ("build", "17", "2026-12-01T00:00:00Z", "10.1.2.3", "/projects/7/a"):
            for operator in ("!=", "not-in"):
                vectors.add("CV-55", "native", f"x {operator} {value}", request({"x": fact}))


def edges(vectors):
    def one(rules, expect, caveat, facts=None, **more):
        vectors.add(rules, "native", caveat, request(facts, **more), expect)

    text = lambda value: {"x": {"text": value}}
    # The line as a whole.
    one("CV-1", "-", "")
    one("CV-1", "+", "x != " + "a" * 4091, text("b"))
    one("CV-1", "-", "x != " + "a" * 4092, text("b"))
    one("CV-2", "+", "x = b", text("b"))
    for expect, lines in (("+", ["x = b", "action = read"]), ("-", ["x = b", "action = write"]), ("-", ["x = c", "action = read"])):
        vectors.add("CV-2", "native", lines, request(text("b")), expect)
        vectors.add("CV-2", "native", lines[::-1], request(text("b")), expect)
    for line in ("x", "x ", "x =", "x = ", " x = b", "x  = b", "x =  b", "x = b ", "x=b", "x =b", "x\t= b", "x = b\n", "x = b\r", "\n",
                 "x = b else", "x? = b else ", "x? = b  else read", "x? = b else  read", "x? = b else read ", "x ? = b", "x in a, b",
                 "x in a ,b", "x? = b elsewhere read", "x = b c", "= b", "? = b", "x allows a: read", "x allows a :read"):
        one("CV-10 CV-3", "-", line, text("b"))
    for name, expect in (("a", "+"), ("a1", "+"), ("a.b", "+"), ("a_b", "+"), ("a-b", "+"), ("a" * 64, "+"), ("a" * 65, "-"), ("A", "-"),
                         ("aB", "-"), ("1a", "-"), ("_a", "-"), ("-a", "-"), (".a", "-"), ("ä", "-"), ("aä", "-"), ("a:b", "-"), ("a/b", "-")):
        one("CV-11", expect, f"{name} = b", {name: {"text": "b"}})
    for operator in ("==", "<>", "=<", "=>", "!", "IN", "In", "not", "not in", "notin", "within", "~", "has", "is", "Under", "allow", "!<", "in?"):
        one("CV-12", "-", f"x {operator} b", text("b"))
    for name in ("time", "action", "tenant"):
        value = {"time": "< 2027-01-01T00:00:00Z", "action": "= read", "tenant": "= acme"}[name]
        one("CV-13", "+", f"{name} {value}")
        one("CV-13", "-", f"{name}? {value}")
        one("CV-13", "-", f"{name}? {value} else read")
    for name in ("subject", "audience"):
        one("CV-13 CV-60", "-", f"{name} = a")
        one("CV-13 CV-61", "+", f"{name}? = a")
        one("CV-13 CV-62", "+", f"{name}? = a else read")
        one("CV-13 CV-62", "-", f"{name}? = a else write")
    one("CV-13", "-", "x?? = b", text("b"))
    one("CV-14", "-", "x = b else read", text("b"))
    one("CV-14", "-", "x in b else read", text("b"))
    one("CV-14", "+", "x? = b else read", text("b"))
    one("CV-14", "+", "x? = else else read", text("else"))
    one("CV-14", "-", "x? = b else read else list", text("b"))
    one("CV-14", "-", "x? = b else read,read", text("b"))
    one("CV-14", "-", "x? = b else /read")
    one("CV-14", "+", 'x? = b else "read it",read')
    for value in ("in b,b", "in b,c,b", "in b,", "in ,b", "in b,,c", "in ,", "not-in b,b", "in " + ",".join(f"v{n}" for n in range(40)) + ",v3",
                  "allows b:read,b:write", "allows b:read|read", "allows b:", "allows b", "allows :read", "allows b:read,", "allows b:|read",
                  "allows b:read|", "allows b:read,,c:read", "allows b:read||write", 'in "a b","a b"', "in 17,17"):
        one("CV-15", "-", f"x {value}", text("b"))
    for value in ("in c,b", "in b,c", "in b", "in " + ",".join(f"v{n}" for n in range(40)) + ",b", "allows c:write,b:write|read",
                  "allows b:read|write,c:write"):
        one("CV-15", "+", f"x {value}", text("b"))
    # Words.
    for value, fact, expect in (
        ('"a b"', "a b", "+"), ('"a,b"', "a,b", "+"), ('"a|b"', "a|b", "+"), ('"a\\"b"', 'a"b', "+"), ('"a\\\\b"', "a\\b", "+"), ('""', "", "+"),
        ('"b"', "b", "-"), ('"17"', "17", "-"), ('"b:c"', "b:c", "-"), ('"ä"', "ä", "-"), ("a,b", "a,b", "-"), ("a|b", "a|b", "-"),
        ("a\\b", "a\\b", "-"), ('a"b', 'a"b', "-"), ('"a b', "a b", "-"), ('a b"', "a b", "-"), ('"a b"c', "a bc", "-"), ('"', '"', "-"),
        ("a\\ b", "a b", "-"), ("'a b'", "a b", "-"), ("a:b", "a:b", "+"), ("a=b", "a=b", "+"), ("!#$&'()*+;<=>?@[]^_`{}~", "!#$&'()*+;<=>?@[]^_`{}~", "+"),
        ("%41", "%41", "+"), ("ä", "ä", "+"), ("日本", "日本", "+"), ("é", "e\u0301", "-"), ("e\u0301", "é", "-"), ("B", "b", "-"),
        ('"a  b"', "a  b", "+"), ('" "', " ", "+"), ('"a b "', "a b", "-"),
    ):
        one("CV-20 CV-21 CV-23", expect, f"x = {value}", text(fact))
    for value in ('"\\n"', '"\\u0041 b"', '"\\x41 b"', '"a\\ b"', '"a b\\"', '"a\\/b c"', '"\x00"', '"a\tb"', '"a\nb"', '"a\x7fb"', '"a\x85b"', '"a\u2028b"',
                  '"a\u2029b"', '"\\a"'):
        one("CV-22", "-", f"x = {value}", text("a b"))
        one("CV-22", "-", f"x != {value}", text("a b"))
    for c in "\u0080\u00a0\u00ad\u034f\u061c\u115f\u1680\u17b4\u180e\u2000\u200b\u200d\u200e\u200f\u202a\u202e\u2060\u2066\u2069\u2800\u3000\u3164\ue000\ufdd0\ufe0f\ufeff\uffa0\ufff9\U0001bca0\U0001d173\U000e0001\U0010fffd":
        one("CV-24", "-", f"x = a{c}b", text(f"a{c}b"))
        if c not in "\u0080":
            one("CV-24 CV-22", "+", f'x = "a{c}b"', text(f"a{c}b"))
    one("CV-24", "-", "x = a\x00b", text("a\x00b"))
    # Integers.
    for value, fact, expect in (
        ("0", 0, "+"), ("-1", -1, "+"), ("9223372036854775807", 2**63 - 1, "+"), ("-9223372036854775808", -(2**63), "+"),
        ("9223372036854775808", 2**63 - 1, "-"), ("-9223372036854775809", -(2**63), "-"), ("+1", 1, "-"), ("01", 1, "-"), ("00", 0, "-"), ("-0", 0, "-"),
        ("-01", -1, "-"), ("+0", 0, "-"), ("1.0", 1, "-"), ("1e0", 1, "-"), ("0x1", 1, "-"), ("1_0", 10, "-"), ("１", 1, "-"), ("--1", -1, "-"), ("-", 0, "-"),
    ):
        one("CV-30", expect, f"x = {value}", {"x": {"int": fact}})
        one("CV-30", expect, f"x <= {value}", {"x": {"int": fact}})
    for value in ("007", "+5", "-0", "9223372036854775808"):
        one("CV-30 CV-35", "-", f"x = {value}", text(value))
        one("CV-35", "+", f'x = "{value}"', text(value))
        one("CV-35", "-", f'x != "{value}"', {"x": {"int": 5}})
    one("CV-51", "+", "x < 9223372036854775807", {"x": {"int": -(2**63)}})
    one("CV-51", "-", "x < -9223372036854775808", {"x": {"int": -(2**63)}})
    for value in ("word", '"1"', "10.0.0.1", "/a", '""'):
        one("CV-51", "-", f"x < {value}", {"x": {"int": 0}})
    # Times.
    for value, now, expect in (
        ("2026-12-01T00:00:00Z", NOW, "+"), ("2026-11-23T12:00:00Z", NOW, "-"), ("2026-11-23T12:00:01Z", NOW, "+"), ("9999-12-31T23:59:59Z", NOW, "+"),
        ("1970-01-01T00:00:00Z", NOW, "-"), ("2028-02-29T00:00:00Z", NOW, "+"), ("2027-02-29T00:00:00Z", NOW, "-"), ("2100-02-29T00:00:00Z", NOW, "-"),
        ("2026-12-31T23:59:60Z", NOW, "-"), ("2026-12-01T24:00:00Z", NOW, "-"), ("2026-12-01T00:60:00Z", NOW, "-"), ("2026-13-01T00:00:00Z", NOW, "-"),
        ("2026-00-01T00:00:00Z", NOW, "-"), ("2026-12-00T00:00:00Z", NOW, "-"), ("2026-12-32T00:00:00Z", NOW, "-"), ("2026-12-01T00:00:00.0Z", NOW, "-"),
        ("2026-12-01T00:00:00.5Z", NOW, "-"), ("2026-12-01T00:00:00+00:00", NOW, "-"), ("2026-12-01T01:00:00+01:00", NOW, "-"), ("2026-12-01T00:00:00-00:00", NOW, "-"),
        ("2026-12-01t00:00:00Z", NOW, "-"), ("2026-12-01T00:00:00z", NOW, "-"), ("2026-12-01", NOW, "-"), ("2026-12-01T00:00Z", NOW, "-"),
        ("2026-12-01T00:00:00", NOW, "-"), ("20261201T000000Z", NOW, "-"), ("+2026-12-01T00:00:00Z", NOW, "-"), ("10000-01-01T00:00:00Z", NOW, "-"),
        ("1969-12-31T23:59:59Z", NOW, "-"), ("1796083200", NOW, "-"), ('"2026-12-01T00:00:00Z"', NOW, "-"),
        ("2026-11-23T12:00:00Z", "2026-11-23T11:59:59.999Z", "+"), ("2026-11-23T12:00:00Z", "2026-11-23T13:00:00+01:00", "-"),
        ("2026-11-23T12:00:00Z", "2026-11-23T12:59:59+01:00", "+"),
    ):
        one("CV-31 CV-51", expect, f"time < {value}", now=now)
    for operator, now, expect in (("<=", NOW, "+"), ("<=", "2026-11-23T12:00:00.001Z", "-"), (">=", NOW, "+"), (">", NOW, "-"), ("=", NOW, "+"), ("!=", NOW, "-"),
                                  ("in", NOW, "+"), ("not-in", NOW, "-"), (">", "2026-11-23T12:00:00.001Z", "+"), (">=", "2026-11-23T11:59:59.999Z", "-")):
        one("CV-51 CV-56", expect, f"time {operator} 2026-11-23T12:00:00Z", now=now)
    one("CV-35", "+", 'x = "2026-12-01T00:00:00Z"', text("2026-12-01T00:00:00Z"))
    one("CV-35 CV-55", "-", "x = 2026-12-01T00:00:00Z", text("2026-12-01T00:00:00Z"))
    # Addresses.
    for value, fact, expect in (
        ("10.0.0.0/8", "10.255.255.255", "+"), ("10.0.0.0/8", "11.0.0.0", "-"), ("10.0.0.1", "10.0.0.1", "+"), ("10.0.0.1/32", "10.0.0.1", "+"), ("0.0.0.0/0", "1.2.3.4", "+"),
        ("0.0.0.0/0", "::1", "-"), ("::/0", "::1", "+"), ("::/0", "1.2.3.4", "-"), ("2001:db8::/32", "2001:db8:1::1", "+"), ("2001:db8::/32", "2001:db9::1", "-"), ("::1", "::1", "+"),
        ("10.0.0.1/8", "10.0.0.1", "-"), ("10.0.0.0/33", "10.0.0.0", "-"), ("10.0.0.0/08", "10.0.0.0", "-"), ("10.0.0.0/", "10.0.0.0", "-"), ("10.0.0.0/255.0.0.0", "10.0.0.0", "-"),
        ("010.0.0.1", "10.0.0.1", "-"), ("10.0.0", "10.0.0.0", "-"), ("10.0.0.256", "10.0.0.1", "-"), ("10.0.0.0/-8", "10.0.0.0", "-"), ("10.0.0.0/+8", "10.0.0.0", "-"),
        ("10.0.0.0/8/8", "10.0.0.0", "-"), ("10.0.0.1.", "10.0.0.1", "-"),
    ):
        one("CV-32 CV-52", expect, f"x in {value}", {"x": {"ip": fact}})
    for value, fact, expect in (
        ("2001:DB8::/32", "2001:db8::1", "-"), ("2001:0db8::/32", "2001:db8::1", "-"), ("2001:db8:0:0:0:0:0:1", "2001:db8::1", "-"), ("2001:db8::1/32", "2001:db8::1", "-"),
        ("2001:db8::/129", "2001:db8::", "-"), ("::ffff:10.0.0.1", "10.0.0.1", "-"), ("::ffff:a00:1", "10.0.0.1", "-"), ("::ffff:0:0/96", "10.0.0.1", "-"), ("fe80::1%eth0", "fe80::1", "-"),
        ("fe80::1%eth0/64", "fe80::1", "-"), ("[::1]", "::1", "-"), ("2001:db8::1/128", "2001:db8::1", "+"), ("fe80::/10", "fe80::1", "+"), ("1::2:0:0:3:4", "1:0:0:2:0:0:3:4", "+"), ("1:0:0:2::3:4", "1:0:0:2:0:0:3:4", "-"),
        ("1:0:0:2::3", "1:0:0:2::3", "+"), ("::1.2.3.4", "::102:304", "-"), ("::102:304", "::102:304", "+"), ("2001:db8::/032", "2001:db8::", "-"),
    ):
        one("CV-33", expect, f"x in {value}", {"x": {"ip": fact}})
    one("CV-36", "-", "x = 10.0.0.0/8", {"x": {"ip": "10.0.0.0"}})
    one("CV-36", "-", "x != 10.0.0.0/8", {"x": {"ip": "11.0.0.0"}})
    one("CV-36", "-", "x allows 10.0.0.0/8:read", {"x": {"ip": "10.0.0.0"}})
    one("CV-43", "+", "x in 10.0.0.0/8", {"x": {"ip": "::ffff:10.1.2.3"}})
    one("CV-43", "-", "x not-in 10.0.0.0/8", {"x": {"ip": "::ffff:10.1.2.3"}})
    one("CV-43", "+", "x = 10.1.2.3", {"x": {"ip": "::ffff:a01:203"}})
    one("CV-41", "-", "y? = a", {"x": {"ip": "fe80::1%eth0"}})
    one("CV-35", "+", 'x = "10.0.0.1"', text("10.0.0.1"))
    one("CV-35 CV-55", "-", "x != 10.0.0.1", text("10.0.0.2"))
    one("CV-35 CV-55", "-", "x not-in 10.0.0.0/8", text("192.0.2.1"))
    one("CV-35", "+", 'x in "10.0.0.0/8",b', text("10.0.0.0/8"))
    one("CV-37", "-", "x in 10.0.0.1,b", {"x": {"ip": "10.0.0.1"}})
    one("CV-37", "-", "x in /a,2026-12-01T00:00:00Z", {"x": {"path": "/a"}})
    one("CV-37", "-", "x in 17,10.0.0.1", {"x": {"int": 17}})
    one("CV-37", "+", "x in 17,b", text("17"))
    one("CV-37 CV-55", "-", "x in 17,b", {"x": {"int": 17}})
    one("CV-37", "-", "x allows a:read,/b:read", text("a"))
    # Paths.
    for value, fact, expect in (
        ("/projects/7", "/projects/7", "+"), ("/projects/7", "/projects/7/a/b", "+"), ("/projects/7", "/projects/77", "-"), ("/projects/7", "/projects", "-"), ("/", "/a", "+"),
        ("/", "/", "+"), ("/a", "/", "-"), ("/projects/7/", "/projects/7/a", "-"), ("//projects", "/projects", "-"), ("/projects//7", "/projects/7", "-"), ("/projects/./7", "/projects/7", "-"),
        ("/projects/../a", "/a", "-"), ("/..", "/", "-"), ("/.", "/", "-"), ("projects", "/projects", "-"), ("/a%2fb", "/a/b", "-"), ("/a%", "/a", "-"), ("/A", "/a", "-"), ("/..a", "/..a/b", "+"),
        ("/a...", "/a.../b", "+"), ('"/a b"', "/a b/c", "+"), ('"/a,b"', "/a,b", "+"), ('"/a"', "/a", "-"), ('"/a b/"', "/a b", "-"), ('"/a b/../c"', "/c", "-"), ('"/a\\\\b"', "/a", "-"),
        ("/a,/b", "/a", "-"), ("/ä", "/ä/b", "+"), ('""', "/", "-"), ("17", "/17", "-"),
    ):
        one("CV-34 CV-53", expect, f"x under {value}", {"x": {"path": fact}})
    for fact in ("/a/../b", "/a//b", "/a/", "a", "", "//", "/a/.", "/%2e%2e/a", "/a\\b", "/a\x00b", "/a\x85b"):
        one("CV-44", "-", "y? = a", {"x": {"path": fact}})
    one("CV-35", "+", 'x = "/a"', text("/a"))
    one("CV-35", "-", "x = /a", text("/a"))
    one("CV-35", "+", 'x = "/a b"', text("/a b"))
    one("CV-35", "+", 'x = "/a b"', {"x": {"path": "/a b"}})
    one("CV-35", "-", 'x != "/a"', {"x": {"path": "/b"}})
    # Requests.
    one("CV-40", "-", "time < 2027-01-01T00:00:00Z", actions=())
    one("CV-40", "-", "time < 2027-01-01T00:00:00Z", tenant="")
    one("CV-40", "-", "time < 2027-01-01T00:00:00Z", actions=("read", ""))
    one("CV-40", "+", "time < 2027-01-01T00:00:00Z")
    one("CV-41", "-", "y? = a", {"X": {"text": "b"}})
    one("CV-41", "-", "y? = a", {"x": {"int": 2**63}})
    one("CV-41", "-", "y? = a", {"x": {"number": 1}})
    one("CV-41", "-", "y? = a", {"x": {"time": "yesterday"}})
    for name in sorted(RESERVED):
        one("CV-42", "-", "y? = a", {name: {"text": "b"}})
    one("CV-45", "-", "x = b", {"x": {"set": ["b", "c"]}})
    one("CV-45", "+", "x in b,c,d", {"x": {"set": ["b", "c"]}})
    one("CV-45", "+", "x != d", {"x": {"set": ["b", "c"]}})
    one("CV-45", "-", "x != c", {"x": {"set": ["b", "c"]}})
    one("CV-45", "-", "x not-in c,d", {"x": {"set": ["b", "c"]}})
    one("CV-45 CV-54", "+", "x allows b:read,c:read", {"x": {"set": ["b", "c"]}})
    one("CV-45 CV-54", "-", "x allows b:read,c:write", {"x": {"set": ["b", "c"]}})
    for value, actions, expect in (("in read,list", ["read"], "+"), ("in read,list", ["read", "list"], "+"), ("in read,list", ["read", "write"], "-"), ("= read", ["read"], "+"),
                                   ("= read", ["read", "list"], "-"), ("!= write", ["read", "list"], "+"), ("!= list", ["read", "list"], "-"), ("not-in write,delete", ["read"], "+"),
                                   ("not-in write,read", ["read"], "-"), ("in READ", ["read"], "-")):
        one("CV-46", expect, f"action {value}", actions=actions)
    one("CV-54", "+", "x allows 17:read|write,42:read", {"x": {"int": 17}}, actions=["read", "write"])
    one("CV-54", "-", "x allows 17:read|write,42:read", {"x": {"int": 42}}, actions=["read", "write"])
    one("CV-54", "-", "x allows 17:read|write,42:read", {"x": {"int": 43}})
    one("CV-54", "+", 'x allows "a:b":read', text("a:b"))
    one("CV-54 CV-20", "-", 'x allows "ab":read', text("ab"))
    one("CV-54", "+", "x allows a:s3:Get|s3:Put", text("a"), actions=["s3:Get"])
    one("CV-54", "-", "x allows 10.0.0.1:read", {"x": {"ip": "10.0.0.1"}})
    for line in ("time under /a", "time allows a:read", "time = b", "time in 17", "time < 17", "action < 5", "action allows read:read", "action under /a", "action = /a", "action in read,10.0.0.1",
                 "tenant < 5", "tenant under /a", "tenant = /acme", "subject? >= 5", "audience? under /a", "subject? in 10.0.0.0/8"):
        one("CV-56", "-", line)
    one("CV-56", "+", "tenant in acme,other")
    one("CV-56", "-", "tenant != acme")
    one("CV-56", "+", "tenant allows acme:read")
    one("CV-56", "+", 'subject? = "/a"')


def foreign(vectors):
    def case(dialect, rules, expect, conditions, facts=None, **more):
        vectors.add(rules, dialect, conditions, request(facts, **more), expect)

    for dialect in ("lnd", "bakery"):
        rules = {"lnd": "CV-100", "bakery": "CV-130"}[dialect]
        for value, expect in (
            ("2026-11-23T12:00:01Z", "+"), ("2026-11-23T12:00:00Z", "-"), ("2026-11-23T12:00:00.000000001Z", "+"), ("2026-11-23T11:59:59.999999999Z", "-"), ("2026-11-23T13:00:01+01:00", "+"),
            ("2026-11-23T13:00:00+01:00", "-"), ("2026-11-23T07:00:00.5-05:00", "+"), ("2026-11-23 13:00:00Z", "-"), ("2026-12-31T23:59:60Z", "-"), ("2027-01-01", "-"), ("", "-"), (" 2027-01-01T00:00:00Z", "-"),
            ("2027-01-01T00:00:00Z ", "-"), ("2027-01-01T00:00:00z", "-"), ("9999-12-31T23:59:59Z", "+"), ("2027-02-29T00:00:00Z", "-"), ("2027-01-01T00:00:00.Z", "-"), ("2027-01-01T00:00:00,5Z", "-"),
        ):
            case(dialect, rules, expect, f"time-before {value}")
        case(dialect, "CV-99", "-", "Time-before 2027-01-01T00:00:00Z")
        case(dialect, "CV-99", "-", "")
        case(dialect, "CV-99", "-", " time-before 2027-01-01T00:00:00Z")
        case(dialect, "CV-99", "-", ["unknown x", "time-before 2027-01-01T00:00:00Z"])
        case(dialect, "CV-99", "+", [])

    ip = lambda value: {"ip": {"ip": value}}
    for value, client, expect in (("10.0.0.1", "10.0.0.1", "+"), ("10.0.0.1", "10.0.0.2", "-"), ("::ffff:10.0.0.1", "10.0.0.1", "+"), ("10.0.0.1", "::ffff:10.0.0.1", "+"), ("::1", "0:0:0:0:0:0:0:1", "+"),
                                  ("2001:DB8::1", "2001:db8::1", "+"), ("nonsense", "10.0.0.1", "-"), ("", "10.0.0.1", "-"), ("10.0.0.1/32", "10.0.0.1", "-"), ("10.0.0.1 ", "10.0.0.1", "-"), ("010.0.0.1", "10.0.0.1", "-"),
                                  ("fe80::1%eth0", "fe80::1", "-")):
        case("lnd", "CV-101", expect, f"ipaddr {value}", ip(client))
    case("lnd", "CV-101 CV-99", "-", "ipaddr 10.0.0.1")
    case("lnd", "CV-101 CV-99", "-", "ipaddr 10.0.0.1", {"ip": {"text": "10.0.0.1"}})
    for value, client, expect in (("10.0.0.0/8", "10.1.1.1", "+"), ("10.9.9.9/8", "10.1.1.1", "+"), ("10.0.0.0/8", "11.0.0.1", "-"), ("2001:db8::/32", "2001:db8::5", "+"), ("0.0.0.0/0", "::1", "-"), ("10.0.0.0", "10.0.0.0", "-"),
                                  ("10.0.0.0/33", "10.0.0.0", "-"), ("10.0.0.0/", "10.0.0.0", "-"), ("::ffff:10.0.0.0/104", "10.1.1.1", "+"), ("10.0.0.0/255.0.0.0", "10.0.0.1", "-"), ("10.0.0.0/8,11.0.0.0/8", "10.0.0.1", "-")):
        case("lnd", "CV-102", expect, f"iprange {value}", ip(client))
    case("lnd", "CV-102 CV-99", "-", "iprange 0.0.0.0/0")
    custom = lambda *values: {"lnd-custom": {"set": list(values)}}
    for value, facts, expect in (("account 42", custom("account 42"), "+"), ("account 42", custom("account 43"), "-"), ("account 42", custom("account"), "+"), ("account", custom("account"), "+"), ("account", custom("account 42"), "-"),
                                 ("accounts 42", custom("account"), "-"), ("account 42", custom(), "-"), ("account 42", {}, "-"), ("account 42", {"lnd-custom": {"text": "account 42"}}, "-"), ("", custom(""), "-"), (" account", custom("account"), "-"),
                                 ("account ", custom("account"), "-"), ("account 4 2", custom("account 4 2"), "+")):
        case("lnd", "CV-103", expect, f"lnd-custom {value}", facts)
    for line in ("declared username bob", "allow read", "deny write", "error x", "ipaddr", "iprange", "lnd-custom", "ip 10.0.0.1"):
        case("lnd", "CV-104 CV-99", "-", line, {**ip("10.0.0.1"), "username": {"text": "bob"}})

    about = lambda **facts: {name.replace("_", "-"): {"text": value} for name, value in facts.items()}
    seconds = 1795435200
    for value, expect in ((f"[0,{seconds + 1},{seconds}]", "+"), (f"[0,{seconds},0]", "-"), (f"[0,{seconds + 1},{seconds + 1}]", "-"), (f"[0,{seconds + 1},-5]", "+"), (f"[0,{10**30},0]", "+"), (f"[0,{seconds + 9}]", "-"), ("[0]", "-"),
                          (f'[0,"{seconds + 9}",0]', "-"), (f"[0,{seconds + 9},null]", "-"), (f" [ 0 , {seconds + 9} , 0 ] ", "+")):
        case("pypi", "CV-110", expect, value)
    for value, expect in (('[1,["sample"]]', "+"), ('[1,["a","sample"]]', "+"), ('[1,["other"]]', "-"), ("[1,[]]", "-"), ('[1,"sample"]', "-"), ('[1,["sample",5]]', "-"), ('[2,["id-1"]]', "+"), ('[2,["id-2"]]', "-"), ("[1]", "-"), ('[1,["Sample"]]', "-"),
                          ('[1,["s\\u0061mple"]]', "+")):
        case("pypi", "CV-111", expect, value, about(project="sample", project_id="id-1"))
        case("pypi", "CV-111 CV-99", "-", value)
    case("pypi", "CV-112", "+", '[3,"u"]', about(user="u"))
    case("pypi", "CV-112", "-", '[3,"u"]', about(user="v"))
    case("pypi", "CV-112", "-", '[3,"u"]')
    case("pypi", "CV-112", "-", "[3,5]", about(user="5"))
    for value, expect in (('[4,"p"]', "+"), ('[4,"q"]', "-"), ('[4,"p",null]', "+"), ('[4,"p",{"ref":"r","sha":"s"}]', "+"), ('[4,"p",{"ref":"r"}]', "-"), ('[4,"p",{}]', "-"), ('[4,"p",{"ref":"r","sha":5}]', "-"), ('[4,"p",{"ref":"r","sha":"s","x":"y"}]', "-"),
                          ('[4,"p",7]', "-"), ('[4,"p",null,null]', "-")):
        case("pypi", "CV-113", expect, value, about(publisher="p", project="sample"))
    case("pypi", "CV-113", "+", '[4,"p"]', about(publisher="p", project_id="i"))
    case("pypi", "CV-113", "-", '[4,"p"]', about(publisher="p"))
    case("pypi", "CV-113", "-", '[4,"p"]', about(project="sample"))
    old = about(project="sample", project_id="id-1", user="u")
    for value, expect in ((f'{{"exp":{seconds + 1},"nbf":{seconds}}}', "+"), (f'{{"nbf":{seconds},"exp":{seconds}}}', "-"), ('{"version":1,"permissions":"user"}', "+"), ('{"version":1,"permissions":{"projects":["sample"]}}', "+"),
                          ('{"permissions":{"projects":["other"]},"version":1}', "-"), ('{"project_ids":["id-1"]}', "+"), ('{"project_ids":["id-2"]}', "-"), ('{"version":2,"permissions":"user"}', "-"), ('{"version":1,"permissions":"admin"}', "-"),
                          ('{"permissions":"user"}', "-"), ('{"version":1}', "-"), ("{}", "-"), ('{"exp":9999999999}', "-"), ('{"version":1,"permissions":{}}', "-"), ('{"version":1,"permissions":null}', "-")):
        case("pypi", "CV-114", expect, value, old)
    case("pypi", "CV-114", "-", '{"version":1,"permissions":"user"}', about(project="sample"))
    for value in (f"[0,{seconds + 9},0,1]", '[1,["sample"],0]', '[2,["id-1"],null]', '[3,"u","x"]', f'{{"exp":{seconds + 9},"nbf":0,"ip":"10.0.0.1"}}', '{"version":1,"permissions":"user","exp":1}', '{"version":1,"permissions":{"projects":["sample"],"x":[]}}',
                  '{"project_ids":["id-1"],"users":["u"]}'):
        case("pypi", "CV-115", "-", value, old)
    for value in (f'{{"exp":1,"exp":{seconds + 9},"nbf":0}}', '{"project_ids":["id-2"],"project_ids":["id-1"]}', '{"version":1,"permissions":{"projects":["other"],"projects":["sample"]}}', '{"version":1,"version":1,"permissions":"user"}',
                  f'{{"exp":1,"\\u0065xp":{seconds + 9},"nbf":0}}'):
        case("pypi", "CV-116", "-", value, old)
    for value in ('[true,["sample"]]', '[1.0,["sample"]]', '[1e0,["sample"]]', '["1",["sample"]]', '[[1],["sample"]]', f"[false,{seconds + 9},0]", f"[-0,{seconds + 9},0]", f"[0.0,{seconds + 9},0]", f"[0,{seconds + 9}.0,0]", f"[0,{seconds + 9},false]", f"[0,1e12,0]",
                  '{"version":true,"permissions":"user"}', '{"version":1.0,"permissions":"user"}', '{"version":"1","permissions":"user"}'):
        case("pypi", "CV-117", "-", value, old)
    for value in ("", "[]", "null", "5", '"x"', "[5]", "[-1]", "[0", f"[0,{seconds + 9},0] x", "[99999999999999999999]", f"[0,{seconds + 9},NaN]", f"[0,{seconds + 9},00]", f"[0,{seconds + 9},0,]", f"{{'exp':{seconds + 9},'nbf':0}}", '[1,["\\ud800"]]', "[[[[[[]]]]]]"):
        case("pypi", "CV-99", "-", value, old)

    path = lambda value, **more: {"path": {"path": value}, **more}
    for conditions, at, expect in (
        (["path:/a"], "/a", "+"), (["path:/a"], "/a/b", "+"), (["path:/a"], "/ab", "-"), (["path:/a"], "/", "-"), (["path:/a", "path:b"], "/a/b/c", "+"), (["path:/a", "path:b"], "/a/c", "-"), (["path:/a", "path:/b"], "/a/b", "+"), (["path:/a", "path:/b"], "/b", "-"),
        (["path:/a", "path:../b"], "/b", "-"), (["path:/a", "path:../b"], "/a/b", "+"), (["path:/a/../b"], "/b", "+"), (["path:a"], "/a", "+"), (["path:/"], "/x", "+"), (["path:"], "/x", "+"), (["path://a//b/"], "/a/b", "+"), (["path:/a/./b"], "/a/b", "+"),
        (["path:/a", "path:.."], "/", "-"),
    ):
        case("dcache", "CV-120", expect, conditions, path(at), actions=["DOWNLOAD"])
    case("dcache", "CV-120 CV-99", "-", "path:/a", actions=["DOWNLOAD"])
    case("dcache", "CV-120 CV-99", "-", "path:/a", {"path": {"text": "/a"}}, actions=["DOWNLOAD"])
    case("dcache", "CV-120", "+", "path:/", actions=["DOWNLOAD"])
    for conditions, at, expect in (
        (["root:/a"], "/a/b", "+"), (["root:/a"], "/b", "-"), (["root:/a", "path:/b"], "/a/b/c", "+"), (["root:/a", "path:/b"], "/b/c", "-"), (["path:/a/b", "root:/a"], "/a/b", "+"), (["path:/a/b", "root:/a"], "/a/c", "-"), (["path:/a", "root:/a/b"], "/a/b/c", "+"),
        (["path:/a", "root:/a/b"], "/a/c", "-"), (["path:/a", "root:/b"], "/b", "-"), (["path:/a", "root:/b"], "/a", "-"), (["root:/a", "root:b"], "/a/b", "+"), (["root:/a", "root:/b"], "/a/b", "+"), (["root:/a", "root:/b"], "/b", "-"), (["root:/a", "root:.."], "/", "-"),
        (["path:/a/b", "root:/a", "path:c"], "/a/b/c", "+"), (["path:/a/b", "root:/a", "path:c"], "/a/c", "-"), (["root:/a", "path:/b", "root:/b"], "/a/b/x", "+"),
    ):
        case("dcache", "CV-121", expect, conditions, path(at), actions=["DOWNLOAD"])
    for conditions, at, actions, expect in ((["path:/a/b"], "/a", ["READ_METADATA"], "+"), (["path:/a/b"], "/", ["READ_METADATA"], "+"), (["path:/a/b"], "/a", ["LIST"], "-"), (["path:/a/b"], "/a", ["READ_METADATA", "LIST"], "-"), (["path:/a/b"], "/c", ["READ_METADATA"], "-"),
                                            (["root:/a", "path:/b"], "/a", ["READ_METADATA"], "+"), (["root:/a", "path:/b"], "/", ["READ_METADATA"], "-"), (["root:/a"], "/", ["READ_METADATA"], "-")):
        case("dcache", "CV-122", expect, conditions, path(at), actions=actions)
    for value in ("home:/Users/paul", "home:", "home:x/../../y"):
        case("dcache", "CV-123", "+", value, path("/elsewhere"), actions=["DOWNLOAD"])
    for value, actions, expect in (("DOWNLOAD,LIST", ["DOWNLOAD"], "+"), ("DOWNLOAD, LIST", ["LIST"], "+"), ("DOWNLOAD", ["READ_METADATA"], "+"), ("DOWNLOAD", ["UPLOAD"], "-"), ("DOWNLOAD", ["DOWNLOAD", "UPLOAD"], "-"), ("STAGE", ["STAGE"], "+"), ("download", ["DOWNLOAD"], "-"), ("", ["DOWNLOAD"], "-"),
                                   ("DOWNLOAD,", ["DOWNLOAD"], "-"), ("DOWNLOAD,FLY", ["DOWNLOAD"], "-"), ("READ_METADATA", ["DOWNLOAD"], "-"), ("DOWNLOAD,DOWNLOAD", ["DOWNLOAD"], "+"), ("LIST,DOWNLOAD,MANAGE,UPLOAD,DELETE,READ_METADATA,UPDATE_METADATA,STAGE", ["DELETE"], "+"),
                                   ("LIST,DOWNLOAD,MANAGE,UPLOAD,DELETE,UPDATE_METADATA,STAGE", ["READ_METADATA"], "+"), ("UPDATE_METADATA", ["MANAGE"], "-")):
        case("dcache", "CV-124", expect, f"activity:{value}", actions=actions)
    for conditions, actions, expect in ((["activity:DOWNLOAD,LIST", "activity:LIST"], ["LIST"], "+"), (["activity:DOWNLOAD,LIST", "activity:LIST"], ["DOWNLOAD"], "-"), (["activity:DOWNLOAD", "activity:DOWNLOAD,LIST"], ["DOWNLOAD"], "-"), (["activity:DOWNLOAD", "activity:READ_METADATA"], ["READ_METADATA"], "-"),
                                        (["activity:DOWNLOAD,READ_METADATA", "activity:READ_METADATA"], ["READ_METADATA"], "+"), (["activity:DOWNLOAD,LIST", "activity:LIST,UPLOAD"], ["LIST"], "-")):
        case("dcache", "CV-125", expect, conditions, actions=actions)
    for value, expect in (("2026-11-23T12:00:00Z", "+"), ("2026-11-23T11:59:59.999Z", "-"), ("2026-11-23T12:00:00.5Z", "+"), ("2026-11-23T13:00:00+01:00", "-"), ("2026-11-23T11:59:59Z", "-"), ("2027-01-01", "-"), ("", "-"), ("2027-01-01T00:00:60Z", "-"), ("2027-01-01T24:00:00Z", "-"),
                          ("2027-01-01T00:00Z", "-"), (" 2027-01-01T00:00:00Z", "-")):
        case("dcache", "CV-126", expect, f"before:{value}", actions=["DOWNLOAD"])
    case("dcache", "CV-126", "-", "before:2026-11-23T12:00:00Z", actions=["DOWNLOAD"], now="2026-11-23T12:00:00.001Z")
    for value, expect in (("10.0.0.1", "+"), ("10.0.0.0/8", "+"), ("192.0.2.1,10.0.0.0/8", "+"), ("192.0.2.1, 10.0.0.1", "+"), ("192.0.2.0/24", "-"), ("", "-"), ("10.0.0.1,nonsense", "-"), ("nonsense,10.0.0.1", "-"), ("10.0.0.9/8", "+"), ("::/0", "-"), ("10.0.0.0/33", "-"), (",10.0.0.1", "+")):
        case("dcache", "CV-127", expect, f"ip:{value}", ip("10.0.0.1"), actions=["DOWNLOAD"])
    case("dcache", "CV-127 CV-99", "-", "ip:10.0.0.1", actions=["DOWNLOAD"])
    size = lambda value: {"upload-size": {"int": value}}
    for value, facts, actions, expect in (("100", size(100), ["UPLOAD"], "+"), ("100", size(101), ["UPLOAD"], "-"), ("100", {}, ["UPLOAD"], "-"), ("100", {}, ["DOWNLOAD"], "+"), ("0", size(0), ["UPLOAD"], "-"), ("-1", size(0), ["UPLOAD"], "-"), ("+100", size(1), ["UPLOAD"], "-"), ("1e3", size(1), ["UPLOAD"], "-"),
                                          ("", size(1), ["UPLOAD"], "-"), ("9223372036854775808", size(1), ["UPLOAD"], "-"), ("9223372036854775807", size(1), ["UPLOAD"], "+"), ("100", size(-1), ["UPLOAD"], "-"), ("100", {"upload-size": {"text": "5"}}, ["UPLOAD"], "-")):
        case("dcache", "CV-128", expect, f"max-upload:{value}", facts, actions=actions)
    case("dcache", "CV-128", "-", ["max-upload:100", "max-upload:50"], size(75), actions=["UPLOAD"])
    case("dcache", "CV-128", "-", ["max-upload:50", "max-upload:100"], size(75), actions=["UPLOAD"])
    for conditions, expect in ((["id:2002;1001,2002,0;paul", "iid:pFM052rS"], "+"), (["id:2002;1001;paul", "id:2002;1001;paul"], "-"), (["iid:a", "iid:a"], "-"), (["id:2002;1001"], "-"), (["id:x;1001;paul"], "-"), (["id:2002;;paul"], "-"), (["id:2002;1001; "], "-"), (["id:-1;0;paul"], "-")):
        case("dcache", "CV-129", expect, conditions, actions=["DOWNLOAD"])
    for line in ("", "nocolon", "Path:/a", "paths:/a", ":", "before", "depth:3", " path:/a"):
        case("dcache", "CV-99", "-", line, path("/a"), actions=["DOWNLOAD"])

    for value, fact, expect in (("username bob", "bob", "+"), ("username bob", "eve", "-"), ("username bob smith", "bob smith", "+"), ("username", "", "-"), ("username ", "", "+"), ("username  bob", " bob", "+"), ("username Bob", "bob", "-")):
        case("bakery", "CV-131", expect, f"declared {value}", about(username=fact))
    case("bakery", "CV-131 CV-99", "-", "declared username bob")
    case("bakery", "CV-131 CV-99", "-", ["declared username bob", "declared username bob"])
    case("bakery", "CV-131", "-", ["declared username bob", "declared username eve"], about(username="bob"))
    case("bakery", "CV-131 CV-99", "-", "declared uid 5", {"uid": {"int": 5}})
    for value, actions, expect in (("allow read write", ["read"], "+"), ("allow read write", ["read", "write"], "+"), ("allow read", ["read", "write"], "-"), ("allow", ["read"], "-"), ("allow ", ["read"], "-"), ("deny write", ["read"], "+"), ("deny write", ["read", "write"], "-"), ("deny", ["read"], "+"),
                                   ("allow  read   write", ["write"], "+"), ("deny x\twrite", ["write"], "-"), ("allow reading", ["read"], "-"), ("allow READ", ["read"], "-"), ("deny read\u00a0write", ["write"], "-")):
        case("bakery", "CV-132", expect, value, actions=actions)
    for line in ("error", "error bad", "std:allow read", "need-declared username x", "is-authenticated-user", "ipaddr 10.0.0.1", "allowed read"):
        case("bakery", "CV-133 CV-99", "-", line, ip("10.0.0.1"))

    def loop(capability=None, tier=None, service="loop"):
        facts = {} if service is None else about(service=service)
        if isinstance(capability, str):
            facts["capability"] = {"text": capability}
        elif capability is not None:
            facts["capability"] = {"set": capability}
        if tier is not None:
            facts["tier"] = {"int": tier}
        return facts

    for value, facts, expect in (("loop:0", loop(), "+"), ("loop:0,pool:1", loop(), "+"), ("pool:0", loop(), "-"), ("loop:0", loop(tier=0), "+"), ("loop:0", loop(tier=1), "-"), ("loop:1", loop(tier=0), "-"), ("loop:256", loop(), "-"), ("loop:256", loop(tier=0), "-"), ("loop:-1", loop(), "-"), ("loop:00", loop(), "-"),
                                 ("loop:+0", loop(), "-"), ("loop:255", loop(tier=255), "+"), ("loop", loop(), "-"), ("loop:0:1", loop(), "-"), (":0", loop(), "-"), ("", loop(), "-"), ("loop:0,", loop(), "-"), ("loops:0", loop(), "-"), ("Loop:0", loop(), "-"), (" loop:0", loop(), "-"), ("loop:0", loop(service=None), "-"),
                                 ("loop:0", {"service": {"set": ["loop"]}}, "-"), ("loop:0", {**loop(), "tier": {"text": "0"}}, "-"), ("loop:x", loop(), "-")):
        case("l402", "CV-140", expect, f"services={value}", facts)
    for conditions, expect in ((["services=loop:0,pool:0", "services=loop:0"], "+"), (["services=loop:0", "services=loop:0,pool:0"], "-"), (["services=loop:0,pool:0", "services=pool:0"], "-"), (["services=loop:0,loop:0"], "-"), (["services=loop:0,loop:1"], "-"), (["services=pool:0", "services=loop:0"], "-")):
        case("l402", "CV-141", expect, conditions, loop())
    ours = "services=loop:0,pool:0"
    for conditions, capability, expect in ((["loop_capabilities=swap,quote"], "swap", "+"), (["loop_capabilities=swap,quote"], "close", "-"), (["loop_capabilities=swap"], None, "-"), (["loop_capabilities="], "swap", "-"), (["loop_capabilities="], "", "-"), (["loop_capabilities=swap,quote"], ["swap", "quote"], "+"),
                                           (["loop_capabilities=swap"], ["swap", "quote"], "-"), (["loop_capabilities=swap,quote", "loop_capabilities=swap"], "swap", "+"), (["loop_capabilities=swap", "loop_capabilities=swap,quote"], "swap", "-"), (["loop_capabilities=swap,quote", "loop_capabilities=quote"], "swap", "-"),
                                           (["loop_capabilities=swap"], [], "-"), (["loop_capabilities=swap "], "swap", "-")):
        case("l402", "CV-142", expect, [ours, *conditions], loop(capability))
        case("l402", "CV-142", expect, conditions, loop(capability))
    for conditions, expect in (([f"loop_valid_until={seconds + 1}"], "+"), ([f"loop_valid_until={seconds}"], "-"), ([f"loop_valid_until={seconds + 9}", f"loop_valid_until={seconds + 5}"], "+"), ([f"loop_valid_until={seconds + 5}", f"loop_valid_until={seconds + 9}"], "-"), (["loop_valid_until="], "-"), (["loop_valid_until=+9999999999"], "-"),
                               (["loop_valid_until=09999999999"], "-"), (["loop_valid_until=9223372036854775808"], "-"), (["loop_valid_until=9223372036854775807"], "+"), (["loop_valid_until=1e12"], "-"), (["loop_valid_until=-1"], "-")):
        case("l402", "CV-143", expect, [ours, *conditions], loop())
    for conditions, expect in (([ours, "pool_capabilities=x"], "+"), ([ours, "pool_valid_until=1"], "+"), (["pool_capabilities=x"], "-"), (["pool_capabilities=x", ours], "-"), (["pool_valid_until=9999999999", ours], "-"), (["services=pool:0", "pool_capabilities=x"], "-"), ([ours, "pool_capabilities=x", "pool_capabilities=x,y"], "-"),
                               ([ours, "pool_valid_until=x"], "-"), (["loop_capabilities=swap", "pool_capabilities=x"], "-"), ([ours, "pool_valid_until=5", "pool_valid_until=6"], "-"), ([ours, "_capabilities=x"], "+")):
        case("l402", "CV-144", expect, conditions, loop("swap"))
    for line in ("preimage=00", "loop_tier=1", "loop_capability=swap", "capabilities=swap", "nothing", "", "=", "services", "Services=loop:0", "loop_max_price=5", "SERVICES=loop:0"):
        case("l402", "CV-145 CV-99", "-", [ours, line], loop("swap"))


def main():
    arguments = sys.argv[1:]
    native_vectors, foreign_vectors = Vectors(), Vectors()
    truth_tables(native_vectors)
    edges(native_vectors)
    foreign(foreign_vectors)
    good = True
    for name, vectors in (("caveats.json", native_vectors), ("caveats-dialects.json", foreign_vectors)):
        refusals = sum(case["expect"] == "refuse" for case in vectors.cases)
        text = "[\n" + ",\n".join(json.dumps(case, ensure_ascii=True) for case in vectors.cases) + "\n]\n"
        print(f"{name}: {len(vectors.cases)} vectors, {refusals} refusals")
        good &= 2 * refusals >= len(vectors.cases)
        if arguments == ["--check"]:
            same = (HERE / name).read_text() == text
            print("" if same else f"{name} is not what this program writes")
            good &= same
        else:
            (HERE / name).write_text(text)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
