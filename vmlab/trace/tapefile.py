"""Recordings as files: one header line, then compressed data, with checks at every level.

{"format": "vmlab-recording-1", "sha256": …, "bytes": …}\\n  zlib( length:8  json  blobs… )
"""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

from ..errors import RecordingError
from ..machine import Machine
from ..mm.bootmem import BootmemAllocator
from ..mm.kernel import Config
from ..mm.page_alloc import PageAllocator
from ..mm.page_init import ZoneSetup
from ..mm.reclaim import Reclaim, ScriptedReclaim
from ..mm.state import State, capture, restore
from .recording import Tape, perform

__all__ = ["load_recording", "save", "state_digest"]

FORMAT = "vmlab-recording-1"
_KNOWN: dict[str, type[Any]] = {c.__name__: c for c in (PageAllocator, BootmemAllocator, ZoneSetup, Reclaim, ScriptedReclaim)}
_PARTS = ("page_allocator", "bootmem", "zone_setup", "reclaim")


def state_digest(state: State) -> str:
    """A fingerprint of a state: equal states have equal ones."""
    digest = hashlib.sha256(json.dumps(state.plain, sort_keys=True, default=list).encode())
    for name in sorted(state.blobs):
        digest.update(name.encode() + b"\0" + state.blobs[name])
    return digest.hexdigest()


def _part_name(part: Any) -> str:
    name = type(part).__name__
    return name.removeprefix("Numa") if name.startswith("Numa") and name[4:] in _KNOWN else name


def save(tape: Tape, path: str | Path) -> None:
    """Write *tape* to *path*, whole or not at all."""
    tape._count()
    start = tape._keys.state(0)
    end = capture(tape.seek(len(tape) - 1)) if len(tape) else start
    body = {
        "config": tape.live.config._asdict(),
        "parts": {name: _part_name(part) for name, part in zip(_PARTS, tape.live.parts(), strict=True)},
        "ops": [[n, list(a)] for n, a in zip(tape._names, tape._args, strict=True)],
        "events": len(tape),
        "plain": start.plain,
        "blobs": {name: len(blob) for name, blob in start.blobs.items()},
        "end": state_digest(end),
    }
    text = json.dumps(body).encode()
    data = zlib.compress(len(text).to_bytes(8, "little") + text + b"".join(start.blobs.values()), 1)
    header = {"format": FORMAT, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    target = Path(path)
    partial = target.with_name(target.name + ".part")
    partial.write_bytes(json.dumps(header).encode() + b"\n" + data)
    partial.replace(target)


def load_recording(path: str | Path, **parts: Any) -> Tape:
    """Read a tape that ``Tape.save`` wrote. Its machine stands at the end of the run.

    A recording made with a part of your own needs that class again: ``page_allocator=MyBuddy``.
    Raises RecordingError when the file is damaged, of another kind, or does not replay to the
    state it was saved in.
    """
    body, blobs = _read(Path(path))
    for name, made_with in body["parts"].items():
        if name not in parts:
            if made_with not in _KNOWN:
                raise RecordingError(f"{path}: recorded with a part of its author's own, {made_with}: pass {name}= with that class")
            parts[name] = _KNOWN[made_with]
    try:
        config = Config(**body["config"])
        machine = Machine(
            e820=config.e820,
            sanitize_e820=config.sanitize_e820,
            kernel_end=config.kernel_end,
            highmem_pages=config.highmem_pages,
            pse=config.pse,
            pae=config.pae,
            highmem=config.highmem,
            memfrac=config.memfrac,
            sizeof_page=config.sizeof_page,
            nodes=config.nodes,
            node_init_order=config.node_init_order,
            numa=config.numa,
            **parts,
        )
        restore(machine, State(blobs, body["plain"]))
        tape = Tape(machine)
        for name, args in body["ops"]:
            perform(machine, name, tuple(args))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise RecordingError(f"{path}: the recording's contents make no sense ({type(error).__name__}: {error})") from error
    tape.stop()
    if len(tape) != body["events"] or state_digest(capture(machine)) != body["end"]:
        raise RecordingError(
            f"{path}: replaying it gives {len(tape)} events and not the recorded {body['events']}, or another final state: "
            "it was made by another version of vmlab, or with other parts"
        )
    return tape


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
        body = json.loads(plain[8 : 8 + size])
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
