"""A locked room for a student's code: a child process with no answers, no network, no files and hard limits.

With bubblewrap (Linux) the child sees read-only system libraries and the Python standard library, an empty /tmp of 16 MiB, and
`child.py` with the `kit`: nothing else. Without it the limits still hold, but files and network are reachable: every result then
carries a warning, so that nobody mistakes it for the real thing.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import queue
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vmlab.course import plain

MEMORY = 768 << 20  # address space, bytes
CPU = 30  # of the whole run, seconds
FILE = 1 << 20  # one file, bytes
TASKS = 8  # processes and threads
FILES = 64  # open at once
TOTAL_OUTPUT = 8 << 20  # all replies of one child, bytes


@dataclass(frozen=True)
class Room:
    """How children are started here: the command before Python, Python itself, the folder of child.py, and what is missing."""

    kind: str
    prefix: tuple[str, ...]
    python: str
    box: str
    uid: bool
    warnings: tuple[str, ...] = ()


@dataclass
class Ending:
    """Why a child gave no answer: `kind` is one of timeout, died, flood, malformed; `says` is a sentence for the student."""

    kind: str
    says: str
    cell: int = -1


@dataclass
class Reply:
    """What came back for one request: a value (plain data, still only a claim), or an error, or the end of the child."""

    value: Any = None
    error: dict[str, Any] = field(default_factory=dict)
    ending: Ending | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a value to judge."""
        return not self.error and self.ending is None


# --- the room --------------------------------------------------------------------------------------------------------------------


def _sweep(folder: Path, age: float = 86400.0) -> None:
    """Remove what runs that were killed left behind: this user's boxes and scratch folders not touched for `age` seconds."""
    for old in [*folder.glob("vmlab-box-*"), *folder.glob("vmlab-run-*")]:
        try:
            seen = old.lstat()
            mine = not hasattr(os, "getuid") or seen.st_uid == os.getuid()
            if mine and stat.S_ISDIR(seen.st_mode) and time.time() - seen.st_mtime > age:
                shutil.rmtree(old, ignore_errors=True)
        except OSError:
            continue


@functools.cache
def _box() -> str:
    """A folder with copies of child.py and kit/, made once a process: the only vmlab files a child ever sees."""
    here = Path(__file__).parent
    _sweep(Path(tempfile.gettempdir()))
    box = Path(tempfile.mkdtemp(prefix="vmlab-box-"))
    atexit.register(shutil.rmtree, box, ignore_errors=True)
    shutil.copy(here / "child.py", box / "child.py")
    shutil.copytree(here / "kit", box / "kit", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for path in [box, *box.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return str(box)


def _base_python() -> tuple[str, str]:
    """(executable, prefix) of the interpreter behind a virtual environment."""
    exe = getattr(sys, "_base_executable", None) or sys.executable
    return os.path.realpath(exe), os.path.realpath(sys.base_prefix)


def _bwrap_command(bwrap: str, box: str, as_root: bool) -> tuple[list[str], str, str]:
    """The bubblewrap command, the Python path and the box path inside it."""
    exe, prefix = _base_python()
    cmd = [bwrap, "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    if as_root:  # real namespaces, then child.py gives up root for a user id of its own, so that process limits count
        cmd += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        cmd += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        cmd += ["--unshare-all", "--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534"]
    for parent in ("/usr", "/usr/bin", "/usr/local", "/usr/local/bin", "/usr/local/lib", "/dev"):
        cmd += ["--perms", "0755", "--dir", parent]  # else the unprivileged user could not pass through them
    for folder in ("/usr/lib", "/usr/lib64", "/usr/lib32", "/lib", "/lib64"):
        if os.path.islink(folder):
            cmd += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            cmd += ["--ro-bind", folder, folder]
    inside, masks = prefix, [Path("/usr/lib/python3/dist-packages")]
    if prefix in ("/usr", "/usr/local"):
        python = exe
        cmd += ["--ro-bind", exe, exe]
        if prefix == "/usr/local":
            stdlib, libdir = sysconfig.get_path("stdlib"), str(sysconfig.get_config_var("LIBDIR"))
            shared = os.path.join(libdir, str(sysconfig.get_config_var("INSTSONAME")))  # python itself, where it is a shared library
            cmd += ["--ro-bind", stdlib, stdlib, "--ro-bind-try", shared, shared, "--setenv", "LD_LIBRARY_PATH", libdir]
    else:
        inside = "/python"
        cmd += ["--ro-bind", prefix, inside, "--setenv", "LD_LIBRARY_PATH", f"{inside}/lib"]
        python = inside + exe.removeprefix(prefix) if exe.startswith(prefix) else exe
        if not exe.startswith(prefix):
            cmd += ["--ro-bind", exe, exe]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for lib in ("lib", "lib64"):
        masks += [Path(inside) / lib / version / "site-packages", Path(inside) / lib / version / "dist-packages",
                  Path(inside) / lib / "python3" / "dist-packages"]
    masks += [Path(inside) / "envs", Path(inside) / "pkgs"]  # other environments of a conda installation
    for mask in dict.fromkeys(masks):  # installed packages, vmlab among them, must not be visible
        real = Path(str(mask).replace(inside, prefix, 1)) if inside != prefix else mask
        if real.is_dir():
            cmd += ["--tmpfs", str(mask)]
    cmd += ["--dev-bind", "/dev/null", "/dev/null", "--dev-bind", "/dev/urandom", "/dev/urandom"]
    cmd += ["--size", str(16 << 20), "--perms", "0777", "--tmpfs", "/tmp", "--ro-bind", box, "/box", "--chdir", "/tmp"]
    cmd += ["--remount-ro", "/", "--setenv", "HOME", "/tmp", "--setenv", "LANG", "C.UTF-8"]
    return cmd, python, "/box"


def _works(room: Room) -> str:
    """Try the room with a child that answers one question; "" when it works, else why not."""
    try:
        with Child(room, {}) as child:
            hidden = [str(Path(__file__).resolve()), os.path.expanduser("~/.bashrc")] if room.kind == "bubblewrap" else []
            probe = f"import os\nseen = [p for p in {hidden!r} if os.path.exists(p)]\nanswer = 0 if seen else 42"
            child.load([["probe", probe]], seconds=10)
            reply = child.request({"op": "value", "name": "answer"}, seconds=10)
            if reply.ok and reply.value == 42 and not child.trouble:
                return ""
            if reply.ok and reply.value == 0:
                return "files of this machine are visible inside it"
            return "; ".join(child.trouble) or (reply.ending.says if reply.ending else str(reply.error)) or child.startup_error()
    except OSError as error:
        return str(error)


@functools.cache
def room() -> Room:
    """The best room this machine offers (found once a process). $VMLAB_SANDBOX=none forces the poor one, for tests of the warning."""
    box = _box()
    why = "bubblewrap (bwrap) is not installed" if sys.platform == "linux" else f"there is no bubblewrap on {sys.platform}"
    bwrap = shutil.which("bwrap") if sys.platform == "linux" else None
    if os.environ.get("VMLAB_SANDBOX") == "none":
        why, bwrap = "VMLAB_SANDBOX=none", None
    if bwrap:
        for as_root in ([True, False] if os.geteuid() == 0 else [False]):
            command, python, inside = _bwrap_command(bwrap, box, as_root)
            candidate = Room("bubblewrap", tuple(command), python, inside, as_root)
            why = _works(candidate)
            if not why:
                return candidate
        why = f"bubblewrap does not work here ({why})"
    exe, _ = _base_python()
    warning = (f"NO SANDBOX: {why}. Student code ran with limits on time and memory only; it could read files and use the network. "
               "Install bubblewrap before grading code you do not trust.")
    return Room("limits only", (), exe, box, False, (warning,))


# --- one child -------------------------------------------------------------------------------------------------------------------


class Child:
    """One process running a student's cells. Use as a context manager; leaving it kills the process and all it started."""

    _uids = iter(range(10**9))

    def __init__(self, where: Room, questions: dict[str, Any]) -> None:
        self.room = where
        self.trouble: list[str] = []
        self._next = 0
        self._inbox: queue.Queue[bytes | None] = queue.Queue(maxsize=64)
        self._outbox: queue.Queue[bytes | None] = queue.Queue()
        self._flood = False
        self._closing = False
        self._scratch = tempfile.mkdtemp(prefix="vmlab-run-")
        self._stderr = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [*where.prefix, where.python, "-I", "-S", "-B", f"{where.box}/child.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._stderr, close_fds=True, cwd=self._scratch, start_new_session=True,
            env={"LANG": "C.UTF-8", "PATH": "", "HOME": self._scratch} | {k: os.environ[k] for k in ("SYSTEMROOT",) if k in os.environ})
        for worker in (self._read, self._write):
            threading.Thread(target=worker, daemon=True).start()
        limits = {"CORE": 0, "NOFILE": FILES, "FSIZE": FILE, "AS": MEMORY, "CPU": CPU, "NPROC": TASKS if where.kind == "bubblewrap" else 1}
        if where.uid:
            limits["UID"] = 1_000_000_000 + (os.getpid() * 1009 + next(Child._uids)) % 1_000_000_000
        self._start_ending: Ending | None = None
        try:
            reply = self._exchange({"limits": limits, "questions": {k: plain.encode(v) for k, v in questions.items()}}, 10.0)
        except BaseException:  # Ctrl-C: nobody has this child yet who could close it
            self.close()
            raise
        if isinstance(reply, Ending):
            self._start_ending = Ending("died", f"the judge could not start a process for the code ({self.startup_error() or reply.says})")
        else:
            self.trouble = [str(x) for x in reply.get("ready", [])]

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def startup_error(self) -> str:
        """What the sandbox program itself printed, for diagnosis."""
        self._stderr.seek(0)
        return plain.clean_text(self._stderr.read(1000).decode("utf-8", "replace").strip(), 300)

    def close(self) -> None:
        """Kill the process, everything it started, and remove its folder."""
        if self._closing:
            return
        self._closing = True
        if hasattr(os, "killpg"):
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        self._process.kill()
        self._process.wait()
        self._outbox.put(None)
        while True:  # let a reader that waits for room in the inbox see the end
            try:
                self._inbox.get_nowait()
            except queue.Empty:
                break
        self._stderr.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    # the two pipes are served by threads, so that a child that neither reads nor writes cannot block the judge

    def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        buffer, total = b"", 0
        with pipe:
            while True:
                try:
                    chunk = os.read(pipe.fileno(), 1 << 16)
                except OSError:
                    chunk = b""
                total += len(chunk)
                buffer += chunk
                if total > TOTAL_OUTPUT or len(buffer) > plain.MAX_BYTES + (1 << 17):
                    self._flood = True
                    break
                if not chunk:
                    break
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    while not self._closing:
                        try:
                            self._inbox.put(line, timeout=0.5)
                            break
                        except queue.Full:
                            continue
        while not self._closing:
            try:
                self._inbox.put(None, timeout=0.5)
                break
            except queue.Full:
                continue

    def _write(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        try:
            with pipe:
                while (raw := self._outbox.get()) is not None:
                    pipe.write(raw)
                    pipe.flush()
        except (BrokenPipeError, OSError, ValueError):
            pass

    def _exchange(self, message: dict[str, Any], seconds: float) -> dict[str, Any] | Ending:
        """Send one request and wait for its answer; an Ending when there will be none. The child is closed then."""
        self._next += 1
        number, cell = self._next, -1
        self._outbox.put(json.dumps({"id": number, **message}).encode() + b"\n")
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._inbox.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                self.close()
                allowed = f"{seconds:g} second{'' if seconds == 1 else 's'}"
                return Ending("timeout", f"did not finish within {allowed} (a loop that never ends?)", cell)
            if line is None:
                return self._obituary(cell)
            try:
                reply = plain.parse(line)
            except plain.NotPlain as error:
                self.close()
                return Ending("malformed", f"sent something unreadable: {error}", cell)
            if type(reply) is dict and type(reply.get("at")) is int:
                cell = reply["at"]
            elif type(reply) is dict and reply.get("id") == number:
                return reply
            else:  # not written by child.py for this request
                self.close()
                return Ending("malformed", "wrote into the connection to the judge", cell)

    def _obituary(self, cell: int) -> Ending:
        try:
            code = None if self._flood else self._process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            code = None  # it closed its pipe but lives on
        flood = self._flood
        self.close()
        if flood:
            return Ending("flood", "wrote far more output than any answer needs and was stopped", cell)
        if code is not None and code >= 128 and self.room.kind == "bubblewrap":
            code = 128 - code  # bwrap reports a signal as 128 + n
        if code is None:
            return Ending("died", "closed the connection to the judge instead of returning", cell)
        if code < 0:
            name = {-9: "was killed", -24: f"used more than {CPU} s of processor time", -11: "crashed (segmentation fault)",
                    -6: "aborted", -25: "wrote a file that is too large", -2: "was interrupted", -15: "was terminated"}.get(code)
            return Ending("died", f"{name or f'was ended by signal {-code}'} instead of returning", cell)
        return Ending("died", f"ended the whole Python process (exit code {code}) instead of returning", cell)

    def load(self, cells: list[list[str]], seconds: float) -> Reply:
        """Run the cells ([label, source] pairs); the value is a list of errors, one for each cell that failed."""
        return self._ask({"op": "load", "cells": cells}, seconds)

    def request(self, message: dict[str, Any], seconds: float) -> Reply:
        """Send one request (value, call or drive) and return what came back."""
        return self._ask(message, seconds)

    def _ask(self, message: dict[str, Any], seconds: float) -> Reply:
        if self._start_ending is not None:
            return Reply(ending=self._start_ending)
        if self._closing:
            return Reply(ending=Ending("died", "the process had already ended"))
        raw = self._exchange(message, seconds)
        if isinstance(raw, Ending):
            return Reply(ending=raw)
        try:
            if "ok" in raw:
                return Reply(value=plain.decode(raw["ok"]))
        except plain.NotPlain as error:
            return Reply(error={"kind": "notplain", "text": str(error), "type": ""})
        if "errors" in raw and type(raw["errors"]) is list:
            return Reply(value=[_scrub(e) for e in raw["errors"][:200] if type(e) is dict])
        error_data = raw.get("error")
        return Reply(error=_scrub(error_data) if type(error_data) is dict else {"kind": "notplain", "text": "no answer", "type": ""})


def _scrub(error: dict[Any, Any]) -> dict[str, Any]:
    """An error report of the child, bounded and made of texts and numbers only."""
    out: dict[str, Any] = {}
    for key in ("kind", "type", "text", "cell", "function", "name"):
        out[key] = plain.clean_text(error[key], 500) if type(error.get(key)) is str else ""
    line = error.get("line")
    out["line"] = line if type(line) is int and 0 <= line < 10**6 else 0
    return out
