"""Recordings as files: one header line, then compressed data, with checks at every level.

{"format": "vmlab-recording-1", "sha256": …, "bytes": …}\n  zlib( length:8  json  blobs… )
"""

from __future__ import annotations

import hashlib
import json
import zlib
from array import array
from pathlib import Path
from typing import Any

from ..errors import RecordingError
from ..machine import Machine
from ..mm.bootmem import BootmemAllocator
from ..mm.kernel import Config
from ..mm.objects import digest_objects
from ..mm.page_alloc import PageAllocator
from ..mm.page_init import ZoneSetup
from ..mm.parts import part_class
from ..mm.reclaim import Reclaim, ScriptedReclaim
from ..mm.slab_debug import DebugSlabAllocator, DebugSmpSlabAllocator
from ..mm.slab_smp import SmpSlabAllocator
from ..mm.state import State, capture, restore
from .recording import Tape, perform

__all__ = ["load_recording", "save", "state_digest"]

FORMAT = "vmlab-recording-1"
_KNOWN: dict[str, type[Any]] = {
    c.__name__: c
    for c in (
        PageAllocator,
        BootmemAllocator,
        ZoneSetup,
        Reclaim,
        ScriptedReclaim,
        DebugSlabAllocator,
        DebugSmpSlabAllocator,
        SmpSlabAllocator,
    )
}
_PARTS = ("page_allocator", "bootmem", "zone_setup", "reclaim")
_NONSENSE = (KeyError, TypeError, ValueError, AttributeError, LookupError, OverflowError, MemoryError)


def state_digest(machine: Machine) -> str:
    """A fingerprint of a machine's state: equal states have equal ones."""
    state = capture(machine)
    digest = hashlib.sha256(json.dumps(state.plain, sort_keys=True, default=list).encode())
    for name in sorted(state.blobs):
        blob = state.blobs[name]
        if name == "objects":
            blob = digest_objects(machine)
        elif name.startswith(("frame", "table")):
            if not any(blob):
                continue  # the same as a frame that nobody wrote to
            name = "frame" + name[5:]
        digest.update(name.encode() + b"\0" + blob)
    return digest.hexdigest()


# -- writing ------------------------------------------------------------------------------------------


def _part_names(machine: Machine) -> dict[str, str]:
    """Names of the classes of the four first parts, and of all others that are not the kernel's own."""
    names = {}
    for slot in _PARTS:
        name = type(getattr(machine, slot)).__name__
        names[slot] = name[4:] if name.startswith("Numa") and name[4:] in _KNOWN else name
    for slot, part in machine.more_parts.items():
        if type(part) is not part_class(slot, machine.config.kernel):
            names[slot] = type(part).__name__
    return names


def _to_json(value: Any) -> Any:
    """What json cannot write of an operation's arguments."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, array):
        return value.tolist()
    raise TypeError(f"an operation with {value!r} among its arguments cannot be saved")


def _from_json(pairs: dict[str, Any]) -> Any:
    return bytes.fromhex(pairs["bytes"]) if pairs.keys() == {"bytes"} else pairs


def _host_files(tape: Tape) -> dict[str, str]:
    """Files of the host that the run reads, with the checksums of what is in them now."""
    found = {}
    for name, args in zip(tape._names, tape._args, strict=True):
        named = args[-1] if args and isinstance(args[-1], dict) else {}
        path = named.get("path") or (args[1] if name in ("import_file", "add_swap") and len(args) > 1 and args[1] is not named else None)
        if isinstance(path, str) and name in ("import_file", "add_swap"):
            found[path] = _checksum(path)
    return found


def _checksum(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return "none"


def save(tape: Tape, path: str | Path) -> None:
    """Write *tape* to *path*, whole or not at all."""
    tape._count()
    start = tape._keys.state(0)
    body = {
        "config": tape.live.config._asdict(),
        "parts": _part_names(tape.live),
        "ops": [[n, list(a)] for n, a in zip(tape._names, tape._args, strict=True)],
        "host": _host_files(tape),
        "events": len(tape),
        "plain": start.plain,
        "blobs": {name: len(blob) for name, blob in start.blobs.items()},
        "end": state_digest(tape.at_end()),
    }
    text = json.dumps(body, default=_to_json).encode()
    data = zlib.compress(len(text).to_bytes(8, "little") + text + b"".join(start.blobs.values()), 1)
    header = {"format": FORMAT, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    target = Path(path)
    partial = target.with_name(target.name + ".part")
    partial.write_bytes(json.dumps(header).encode() + b"\n" + data)
    partial.replace(target)


# -- reading ------------------------------------------------------------------------------------------


def load_recording(path: str | Path, **parts: Any) -> Tape:
    """Read a tape that ``Tape.save`` wrote. Its machine stands at the end of the run.

    A recording made with a part of your own needs that class again: ``page_allocator=MyBuddy``, ``parts={"slab": MySlab}``.
    Raises RecordingError when the file is damaged, of another kind, or does not replay to the
    state it was saved in.
    """
    body, blobs = _read(Path(path))
    try:
        config = Config(**body["config"])
        machine = Machine(**config._asdict(), **_classes(path, config, body["parts"], parts))
        for file, checksum in body["host"].items():
            if _checksum(file) != checksum:
                raise RecordingError(f"{path}: the run reads the file {file} of this computer, and that is not what it was then")
        restore(machine, State(blobs, body["plain"]))
        tape = Tape(machine)
        for name, args in body["ops"]:
            if name not in _OPERATIONS:
                raise RecordingError(f"{path}: the recording's contents make no sense: {name!r} is no operation of a machine")
            perform(machine, name, tuple(args))
    except _NONSENSE as error:
        raise RecordingError(f"{path}: the recording's contents make no sense ({type(error).__name__}: {error})") from error
    except RecordingError as error:
        raise error if str(error).startswith(str(path)) else RecordingError(f"{path}: {error}") from error
    tape.stop()
    if len(tape) != body["events"] or state_digest(machine) != body["end"]:
        raise RecordingError(
            f"{path}: replaying it gives {len(tape)} events and not the recorded {body['events']}, or another final state: "
            "it was made by another version of vmlab, or with other parts"
        )
    return tape


# What may stand in a file: the methods that call Tape.begin. A file cannot make a machine do anything else.
_OPERATIONS = {name for name in dir(Machine) if getattr(getattr(Machine, name), "is_operation", False)} | {
    "alloc_pages",
    "free_pages",
    "clear_page",
    "write",
    "set_task_flags",
    "clear_need_balance",
    "queue_reclaim",
    "set_cpu_node",
    "boot_step",
}


def _classes(path: str | Path, config: Config, made_with: dict[str, str], given: dict[str, Any]) -> dict[str, Any]:
    """The options that give a machine the parts it was recorded with."""
    options = dict(given)
    others = options["parts"] = dict(options.get("parts") or {})
    vmscan = part_class("vmscan", config.kernel)
    for slot, name in made_with.items():
        default = vmscan if slot == "reclaim" else part_class(slot, config.kernel)
        if slot in options or slot in others or name == default.__name__:
            continue
        if name not in _KNOWN:
            how = f"{slot}= with that class" if slot in _PARTS else f"parts={{{slot!r}: that class}}"
            raise RecordingError(f"{path}: recorded with a part of its author's own, {name}: pass {how}")
        (options if slot in _PARTS else others)[slot] = _KNOWN[name]
    return options


def _read(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror or error})") from None
    line, newline, data = raw.partition(b"\n")
    try:
        header = json.loads(line)
        known = header["format"]
    except (ValueError, KeyError, TypeError):
        raise RecordingError(f"{path}: not a vmlab recording") from None
    if known != FORMAT:
        raise RecordingError(f"{path}: of the kind {known!r}; this vmlab reads {FORMAT!r}")
    if not newline or len(data) != header.get("bytes"):
        raise RecordingError(f"{path}: cut short: {len(data)} bytes of {header.get('bytes')}")
    if hashlib.sha256(data).hexdigest() != header.get("sha256"):
        raise RecordingError(f"{path}: damaged: its contents do not match its checksum")
    try:
        plain = zlib.decompress(data)
        size = int.from_bytes(plain[:8], "little")
        body = json.loads(plain[8 : 8 + size], object_hook=_from_json)
        at = 8 + size
        blobs: dict[str, bytes] = {}
        for name, length in body["blobs"].items():
            blobs[name] = plain[at : at + length]
            at += length
        if at != len(plain):
            raise ValueError("lengths do not add up")
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordingError(f"{path}: damaged ({error})") from None
    return body, blobs
