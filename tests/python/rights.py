"""Hooks that give calls of schemathesis the rights which their methods want, and let some of them reach the signer.

NATSUIN_RIGHTS names a file that says for each path: `token`, the right; `reads`, a token beside which the right goes as SAD in every
second call; `always`, members that take the place of those of the same name and type; `deep`, members that lead past every check of
the form; and `budget`, how many calls get those. What was answered in words is written to NATSUIN_HEARD, by path.
"""

import atexit
import json
import os

import schemathesis

with open(os.environ["NATSUIN_RIGHTS"], encoding="utf-8") as given:
    RIGHTS = json.load(given)

calls = dict.fromkeys(RIGHTS, 0)
deep = dict.fromkeys(RIGHTS, 0)
heard = {path: set() for path in RIGHTS}


def replaced(value, members):
    """The same with these members instead of those that are there and of the same type."""
    if isinstance(value, list):
        return [replaced(inner, members) for inner in value]
    if not isinstance(value, dict):
        return value
    return {
        name: members[name] if name in members and isinstance(inner, type(members[name])) else replaced(inner, members)
        for name, inner in value.items()
    }


def led(value, members):
    """The same with these members; objects in them take others in where there is an object already."""
    merged = dict(value)
    for name, new in members.items():
        old = value.get(name)
        if not isinstance(new, dict):
            merged[name] = new
        elif isinstance(old, dict):
            merged[name] = led(old, new)
    return merged


@schemathesis.hook
def before_call(context, case, kwargs):
    path = case.operation.path
    right = RIGHTS.get(path)
    if right is None:
        return
    calls[path] += 1
    beside = right["reads"] is not None and calls[path] % 2 == 0
    case.headers["Authorization"] = "Bearer " + (right["reads"] if beside else right["token"])
    if not isinstance(case.body, dict):
        return
    always = {"SAD": right["token"], **right["always"]}
    body = replaced(case.body, always)
    if right["budget"] is None or deep[path] < right["budget"]:
        deep[path] += 1
        # The first has nothing else that could be refused before.
        body = dict(right["deep"]) if deep[path] == 1 else led(body, right["deep"])
    if beside:
        body = {**body, "SAD": right["token"]}
    case.body = body


@schemathesis.hook
def after_call(context, case, response):
    path = case.operation.path
    if path not in RIGHTS:
        return
    try:
        words = json.loads(response.content)["error_description"]
    except (ValueError, KeyError, TypeError):
        return
    heard[path].add(words)


@atexit.register
def write():
    with open(os.environ["NATSUIN_HEARD"], "w", encoding="utf-8") as told:
        json.dump({path: sorted(words) for path, words in heard.items()}, told)
