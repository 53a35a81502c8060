"""Plain data: the only thing that crosses from a student's process to the judge.

A child process may claim anything, so what it sends is read as JSON, bounded in size and depth, and rebuilt here out of exact
`None`, `bool`, `int`, `float`, `str`, `list` and `dict` objects. An object with a `__eq__` of its own cannot exist on this side.

Wire form: JSON, except that a dict travels as `{"d": [[key, value], …]}` (so that `int` keys survive) and a set as `{"s": […]}`.
Tuples become lists: the course never grades the difference.
"""

from __future__ import annotations

import json
import math
from typing import Any

MAX_BYTES = 1_000_000  # one message of a child, bytes
MAX_DEPTH = 40
MAX_NODES = 200_000
MAX_INT_BITS = 4096
MAX_TEXT = 100_000  # one string, characters


class NotPlain(ValueError):
    """What came from the child is not plain data; the text says why, in words for a student."""


def _refuse_constant(name: str) -> float:
    raise NotPlain(f"the answer holds {name}, which is not a number that can be compared")


def clean_text(text: str, limit: int = 2000) -> str:
    """Make `text` from outside safe to store and show: no lone surrogates, no control characters, at most `limit` characters."""
    text = text[: limit * 2].encode("utf-8", "replace").decode("utf-8")
    text = "".join(c if c in "\n\t" or (c.isprintable() and c not in "\u2028\u2029") else "\ufffd" for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def parse(raw: bytes) -> Any:
    """Read one JSON message of a child; bytes in, plain JSON objects out. Raises NotPlain for anything else."""
    if len(raw) > MAX_BYTES:
        raise NotPlain(f"the answer is larger than {MAX_BYTES:,} bytes")
    try:
        return json.loads(raw.decode("utf-8", "strict"), parse_constant=_refuse_constant)
    except NotPlain:
        raise
    except RecursionError:
        raise NotPlain(f"the answer is nested more than {MAX_DEPTH} levels deep") from None
    except (UnicodeDecodeError, ValueError):
        raise NotPlain("the answer is not readable as plain data") from None


def decode(wire: Any) -> Any:
    """Turn the wire form into plain Python values. Raises NotPlain when it is too deep, too big or not of the wire form."""
    budget = [MAX_NODES]
    return _decode(wire, 0, budget)


def _decode(wire: Any, depth: int, budget: list[int]) -> Any:
    budget[0] -= 1
    if budget[0] < 0:
        raise NotPlain(f"the answer holds more than {MAX_NODES:,} values")
    if depth > MAX_DEPTH:
        raise NotPlain(f"the answer is nested more than {MAX_DEPTH} levels deep")
    kind = type(wire)
    if wire is None or kind is bool:
        return wire
    if kind is int:
        if wire.bit_length() > MAX_INT_BITS:
            raise NotPlain("the answer holds a number of more than a thousand digits")
        return wire
    if kind is float:
        if not math.isfinite(wire):
            raise NotPlain("the answer holds an infinite number or NaN")
        return wire
    if kind is str:
        return clean_text(wire, MAX_TEXT)
    if kind is list:
        return [_decode(item, depth + 1, budget) for item in wire]
    if kind is dict and len(wire) == 1:
        ((tag, items),) = wire.items()
        if tag == "s" and type(items) is list:
            return [_decode(item, depth + 1, budget) for item in items]
        if tag == "d" and type(items) is list:
            out: dict[Any, Any] = {}
            for pair in items:
                if type(pair) is not list or len(pair) != 2 or type(pair[0]) not in (int, str, bool, type(None)):
                    raise NotPlain("a dict of the answer has a key that is neither a number nor a text")
                out[_decode(pair[0], depth + 1, budget)] = _decode(pair[1], depth + 1, budget)
            return out
    raise NotPlain("the answer is not made of numbers, texts, lists and dicts")


def encode(value: Any, depth: int = 0) -> Any:
    """Turn plain values (and tuples and sets of them) into the wire form; used for inputs. Raises NotPlain for other types."""
    kind = type(value)
    if depth > MAX_DEPTH:
        raise NotPlain("nested too deep")
    if value is None or kind in (bool, int, str):
        return value
    if kind is float and math.isfinite(value):
        return value
    if kind in (list, tuple):
        return [encode(item, depth + 1) for item in value]
    if kind in (set, frozenset):
        return {"s": [encode(item, depth + 1) for item in sorted(value, key=repr)]}
    if kind is dict:
        return {"d": [[encode(k, depth + 1), encode(v, depth + 1)] for k, v in value.items()]}
    raise NotPlain(f"{kind.__name__} is not plain data")


def normal(value: Any) -> Any:
    """The value as it would look after a trip over the wire (tuples and sets as lists): for an oracle's answers."""
    return decode(json.loads(json.dumps(encode(value))))


def same(expected: Any, got: Any, *, tolerance: float = 0.0) -> bool:
    """Whether two plain values agree: exact types apart from whole floats (`3.0` is `3`), floats within `tolerance` (relative).

    A bool never equals a number. Both sides are plain by construction, so no code of a student runs here.
    """
    if isinstance(expected, bool) or isinstance(got, bool) or expected is None or got is None:
        return expected is got
    if isinstance(expected, (int, float)):
        if not isinstance(got, (int, float)):
            return False
        if isinstance(expected, int) and isinstance(got, int) and not tolerance:
            return expected == got
        try:
            return abs(float(expected) - float(got)) <= max(tolerance * max(abs(float(expected)), 1e-12), 0.0)
        except OverflowError:
            return False
    if type(expected) is not type(got):
        return False
    if isinstance(expected, list):
        return len(expected) == len(got) and all(same(a, b, tolerance=tolerance) for a, b in zip(expected, got, strict=True))
    if isinstance(expected, dict):
        return expected.keys() == got.keys() and all(same(v, got[k], tolerance=tolerance) for k, v in expected.items())
    return bool(expected == got)


def show(value: Any, limit: int = 300) -> str:
    """A short text of a plain value for a report; long ones are cut in the middle."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        text = "<a value too large to print>"
    text = clean_text(text, 20_000)
    if len(text) <= limit:
        return text
    return f"{text[: limit * 2 // 3]} … {text[-(limit // 4):]}"


def first_difference(expected: Any, got: Any, path: str = "") -> str:
    """Say in words where two plain values first differ, for feedback: "at [3]: expected 16, got 32"; "" when they agree."""
    if same(expected, got):
        return ""
    where = f"at {path}: " if path else ""
    if isinstance(expected, list) and isinstance(got, list):
        for i, (a, b) in enumerate(zip(expected, got, strict=False)):
            if not same(a, b):
                return first_difference(a, b, f"{path}[{i}]")
        return f"{where}expected {len(expected)} items, got {len(got)}"
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in expected:
            if key not in got:
                return f"{where}{key!r} is missing"
            if not same(expected[key], got[key]):
                return first_difference(expected[key], got[key], f"{path}[{key!r}]")
        extra = [key for key in got if key not in expected]
        return f"{where}{extra[0]!r} should not be there"
    return f"{where}expected {show(expected, 120)}, got {show(got, 120)}"
