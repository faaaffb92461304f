"""Alterations of bytes, texts and trees, by a generator of numbers that the caller seeds."""

from __future__ import annotations

import copy
import random
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 9, 2**31, 2**53 + 1, 2**63, 1.0, 2.0, 0.5, "", "0", "1", "A", "2021-01-01",
    "1990-01-01", "é", "\u202e", "x" * 100, [], {}, [[]], [{}], {"a": 1},
)  # fmt: skip

STRANGE = "\0\n \x7fé\u2028😀"


def alter_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return other bytes: bits turned, bytes replaced, inserted, deleted, moved, cut."""
    altered = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        position = rng.randrange(len(altered)) if altered else 0
        match rng.randrange(7):
            case 0 | 1 if altered:
                altered[position] ^= 1 << rng.randrange(8)
            case 2 if altered:
                altered[position] = rng.randrange(256)
            case 3:
                altered[position:position] = rng.randbytes(rng.randint(1, 4))
            case 4:
                del altered[position : position + rng.randint(1, 4)]
            case 5:
                end = position + rng.randint(1, 16)
                piece = altered[position:end]
                del altered[position:end]
                target = rng.randint(0, len(altered))
                altered[target:target] = piece
            case _:
                del altered[rng.randint(0, len(altered)) :]
    return bytes(altered)


def alter_text(text: str, alphabet: str, rng: random.Random) -> str:
    """Return another text: characters replaced, swapped, inserted, deleted, cut, of the alphabet or of none."""
    characters = list(text)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        position = rng.randrange(len(characters)) if characters else 0
        character = rng.choice(alphabet if rng.random() < 0.9 else STRANGE)
        match rng.randrange(6):
            case 0 | 1 if characters:
                characters[position] = character
            case 2 if characters:
                other = rng.randrange(len(characters))
                characters[position], characters[other] = characters[other], characters[position]
            case 3:
                characters.insert(position, character)
            case 4:
                del characters[position : position + rng.randint(1, 4)]
            case _:
                del characters[rng.randint(0, len(characters)) :]
    return "".join(characters)


def alter_tree(tree: Any, rng: random.Random, others: Any = None) -> Any:
    """Return another tree of dicts and lists: one value replaced, removed, doubled, renamed, swapped or grafted."""
    altered = copy.deepcopy(tree)
    places = list(_places(altered))
    if not places:
        return rng.choice(ODD)
    for _ in range(rng.choice((1, 1, 1, 2))):
        holder, key = rng.choice(places)
        if key not in (holder if isinstance(holder, dict) else range(len(holder))):
            continue
        match rng.randrange(8):
            case 0:
                holder[key] = rng.choice(ODD)
            case 1:
                holder[key] = _nudged(holder[key], rng)
            case 2:
                del holder[key]
            case 3 if isinstance(holder, dict):
                holder[rng.choice(("id", "x", "v", "r", "name", 1, "1", key, f"{key} "))] = holder[key]
            case 3:
                holder.append(holder[key])
            case 4:
                other, there = rng.choice(places)
                if there in (other if isinstance(other, dict) else range(len(other))):
                    # Copies of both: one may lie within the other, and a tree has no circles.
                    this, that = copy.deepcopy(holder[key]), copy.deepcopy(other[there])
                    holder[key] = that
                    other[there] = this
            case 5:
                holder[key] = [holder[key]] if rng.random() < 0.5 else {"a": holder[key]}
            case 6 if others is not None:
                theirs = list(_places(others))
                match_ = [(h, k) for h, k in theirs if k == key] or theirs
                other, there = rng.choice(match_)
                holder[key] = copy.deepcopy(other[there])
            case _ if isinstance(holder, dict):
                holder[rng.choice(("", "d", "t", "@id", "proof", "extra", -260, 7))] = rng.choice(ODD)
            case _:
                holder.insert(0, rng.choice(ODD))
    return altered


def _places(tree: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    rest = [tree]
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            found += [(one, key) for key in one]
            rest += one.values()
        elif isinstance(one, list):
            found += [(one, index) for index in range(len(one))]
            rest += one
    return found


def _nudged(value: Any, rng: random.Random) -> Any:
    match value:
        case bool():
            return not value
        case int():
            return value + rng.choice((-1, 1, 256, 2**32))
        case float():
            return value + 1
        case str():
            return alter_text(value, "AZ09<- :/", rng) if value else "A"
        case bytes():
            return alter_bytes(value, rng) if value else b"\0"
        case _:
            return rng.choice(ODD)
