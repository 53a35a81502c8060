"""Everything of a whole machine that is not a column: tasks, address spaces, files, caches, as one blob.

One pickle keeps what refers to what. The machine itself, its parts, zones and method tables are
written by name and found again in the machine that is restored. Reading is restricted to plain
containers and the classes of vmlab.mm: a recording from elsewhere cannot run code.

Source: Python documentation, pickle, "Restricting Globals" and ``reducer_override``.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from array import array
from collections import OrderedDict, defaultdict, deque
from types import FunctionType
from typing import TYPE_CHECKING, Any

from ..errors import RecordingError
from .fs import Ops
from .kernel import Kernel, Part
from .lists import ListColumns
from .mmzone import PgData, Zone
from .page import MemMap
from .vm import Pgd

if TYPE_CHECKING:
    from collections.abc import Callable

_PLAIN = {
    ("array", "array"),
    ("array", "_array_reconstructor"),
    ("collections", "OrderedDict"),
    ("collections", "deque"),
    ("collections", "defaultdict"),
    ("copyreg", "__newobj__"),
    ("copyreg", "_reconstructor"),
    ("builtins", "object"),
    ("builtins", "set"),
    ("builtins", "frozenset"),
    ("builtins", "bytearray"),
    ("builtins", "list"),
    ("builtins", "dict"),
}
_VALUES = {int, str, bytes, bool, float, type(None)}
_GLOBALS = ("mappings", "next_mapping_id", "console", "current", "init_task")


class _Writer(pickle.Pickler):
    """Writes references to the machine's fixtures by name."""

    def __init__(self, file: io.BytesIO, kernel: Kernel) -> None:
        super().__init__(file, protocol=5)
        self.names = {id(part): name for name, part in parts_by_name(kernel).items()}

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Ops):
            return find, ("ops", obj.name)
        if isinstance(obj, Part):
            return find, ("part", self.names[id(obj)])
        if isinstance(obj, Kernel):
            return find, ("kernel", "")
        if isinstance(obj, Zone):
            return find, ("zone", obj.index)
        if isinstance(obj, PgData):
            return find, ("node", obj.nid)
        if isinstance(obj, Pgd):
            return find, ("pgd", obj.pa)
        if isinstance(obj, (MemMap, ListColumns)):
            raise TypeError(f"a part keeps {type(obj).__name__} in its state_names: columns are saved on their own")
        return NotImplemented


class _Reader(pickle.Unpickler):
    """Reads nothing but data."""

    def __init__(self, file: io.BytesIO, kernel: Kernel) -> None:
        super().__init__(file)
        self.kernel = kernel

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == (__name__, "find"):
            return self.fixture
        found = super().find_class(module, name) if (module, name) in _PLAIN or "." not in name and module.startswith("vmlab.") else None
        own = isinstance(found, type) and found.__module__ == module and module.startswith(("vmlab.mm.", "vmlab.v26.", "vmlab.hw."))
        own = own or isinstance(found, type) and issubclass(found, Part)
        if (module, name) not in _PLAIN and not own:
            raise RecordingError(f"the recording refers to {module}.{name}, which is no part of a machine's state")
        return found

    def fixture(self, kind: str, name: Any) -> Any:
        """What :func:`find` stands for, in the machine being restored."""
        kernel = self.kernel
        if kind == "ops":
            return kernel.ops[name]
        if kind == "part":
            return parts_by_name(kernel)[name]
        if kind == "zone":
            return next(z for p in kernel.pgdats for z in p.node_zones if z.index == name)
        if kind == "node":
            return next(p for p in kernel.pgdats if p.nid == name)
        if kind == "pgd":
            pgd = Pgd(name, None)
            kernel.pgtable.relink(pgd)
            return pgd
        return kernel


def find(kind: str, name: Any) -> Any:
    """Stands in a pickle for a fixture of the machine; only :class:`_Reader` knows which machine."""
    raise RecordingError(f"{kind} {name} can only be read back into a machine")


def parts_by_name(kernel: Kernel) -> dict[str, Part]:
    """All parts of a machine by attribute."""
    first = {name: getattr(kernel, name) for name in ("page_allocator", "bootmem", "zone_setup", "reclaim")}
    return {**first, **kernel.more_parts}


def _contents(kernel: Kernel) -> tuple[dict[str, Any], dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """The state of all parts, and everything they refer to."""
    parts = {name: {key: getattr(part, key) for key in part.state_names} for name, part in parts_by_name(kernel).items()}
    places = {f"node{p.nid}": p for p in kernel.pgdats} | {f"zone{z.index}": z for p in kernel.pgdats for z in p.node_zones}
    fixtures = {name: {key: getattr(place, key) for key in place.more_state} for name, place in places.items()}
    return {name: getattr(kernel, name) for name in _GLOBALS}, parts, fixtures


def capture_objects(kernel: Kernel) -> bytes:
    """The state of all parts, and everything they refer to, as bytes."""
    buffer = io.BytesIO()
    _Writer(buffer, kernel).dump(_contents(kernel))
    return buffer.getvalue()


def digest_objects(kernel: Kernel) -> bytes:
    """A fingerprint of what :func:`capture_objects` saves. Equal states have equal ones.

    The pickle itself does not: it shows which equal strings are one object in memory.
    """
    reduce = _Writer(io.BytesIO(), kernel).reducer_override
    seen: dict[int, int] = {}
    kept: list[Any] = []  # or another object could get a seen one's id
    words: list[str] = []
    stack: list[Any] = [_contents(kernel)]
    while stack:
        value = stack.pop()
        kind = type(value)
        if kind in _VALUES:
            words.append(repr(value))
            continue
        if kind is not tuple:
            if id(value) in seen:
                words.append(f"@{seen[id(value)]}")
                continue
            seen[id(value)] = len(seen)
            kept.append(value)
        if kind in (tuple, list, deque):
            children = list(value)
        elif kind in (set, frozenset):
            children = sorted(value, key=repr)
        elif kind in (dict, OrderedDict, defaultdict):
            children = [part for item in value.items() for part in item]
        elif kind in (array, bytearray):
            words.append(f"{kind.__name__} {bytes(value).hex()}")
            continue
        elif isinstance(value, (type, FunctionType)):
            words.append(f"{value.__module__}.{value.__qualname__}")
            continue
        else:
            made = reduce(value)
            if made is NotImplemented:
                made = value.__reduce_ex__(2)
            children = [list(part) if hasattr(part, "__next__") else part for part in made]
        words.append(f"{kind.__name__} {len(children)}")
        stack += reversed(children)
    return hashlib.sha256("\n".join(words).encode()).digest()


def restore_objects(kernel: Kernel, blob: bytes) -> None:
    """Put the state of all parts back; columns and frames must have been restored before.

    Raises RecordingError when the blob is damaged or refers to anything but a machine's state.
    """
    try:
        loaded = _Reader(io.BytesIO(blob), kernel).load()
        values, parts, fixtures = loaded
        places = {f"node{p.nid}": p for p in kernel.pgdats} | {f"zone{z.index}": z for p in kernel.pgdats for z in p.node_zones}
        for name, attributes in fixtures.items():
            for key, value in attributes.items():
                setattr(places[name], key, value)
        for name in _GLOBALS:
            setattr(kernel, name, values[name])
        for name, part in parts_by_name(kernel).items():
            for key, value in parts.get(name, {}).items():  # an older recording does not know every part
                setattr(part, key, value)
            restored: Callable[[], None] | None = getattr(part, "restored", None)
            if restored is not None:
                restored()
    except (pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError, AttributeError, ImportError) as error:
        raise RecordingError(f"the saved state cannot be read: {error}") from error
