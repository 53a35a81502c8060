"""The program that runs a student's code, in a process of its own.

It is started as a file (`python -I -S -B child.py`) inside the sandbox, where of vmlab only this file and `kit/` exist. It knows no
answers and no tests: it gets cells and inputs as JSON lines on stdin and answers with plain JSON on what was its stdout. It shares
its process with the student's code, so the parent treats every word it says as a claim, never as a fact.

Standard library only; nothing of vmlab may be imported here.
"""

from __future__ import annotations

import ast
import importlib
import importlib.abc
import importlib.machinery
import json
import linecache
import os
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

MAX_DEPTH = 40
SILENT = ("IPython", "matplotlib", "numpy", "pandas", "bqplot", "ipywidgets", "anywidget", "tqdm")  # imports that must not stop a cell


class NotInJudge(RuntimeError):
    """Raised when a cell uses something that does not exist where answers are judged."""


class NotPlain(TypeError):
    """The answer is not made of plain data."""


class Absent:
    """Stands for a name that exists in the notebook but not here; using it says so."""

    def __init__(self, name: str) -> None:
        self.__dict__["_name"] = name

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise NotInJudge(f"{self._name} cannot be used in the code that is judged (only the standard library and vmlab.course.kit can)")

    __call__ = __iter__ = __len__ = __bool__ = __lt__ = __gt__ = __le__ = __ge__ = __add__ = __radd__ = __sub__ = __rsub__ = _refuse
    __mul__ = __rmul__ = __truediv__ = __floordiv__ = __mod__ = __getitem__ = __setitem__ = __enter__ = __int__ = __index__ = _refuse

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self._name}.{name}")

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        self._refuse()
        return ()


class Quiet:
    """Accepts everything and does nothing: for `display(…)`, `course.check(…)` and the like inside judged cells."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __bool__(self) -> bool:
        return False

    def __iter__(self) -> Any:
        return iter(())

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return ()  # `class Mine(Policy)` with a class that only exists in the notebook: an ordinary class here

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


class Placeholders(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes `import vmlab.views` or `import numpy` succeed here, with modules that only complain when they are used."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: Any = None) -> Any:
        root = fullname.partition(".")[0]
        if fullname.startswith("vmlab.course.kit") or (root != "vmlab" and root not in SILENT):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: Any) -> types.ModuleType:
        return types.ModuleType(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        quiet = module.__name__.startswith(("IPython", "vmlab.course", "tqdm"))

        def missing(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return Quiet() if quiet else Absent(f"{module.__name__}.{name}")

        module.__dict__["__getattr__"] = missing


def make_vmlab(box: str, questions: dict[str, Any]) -> None:
    """Put a stand-in for `vmlab` and `vmlab.course` in place; only `vmlab.course.kit` (in `box`) is real."""
    vmlab, course = types.ModuleType("vmlab"), types.ModuleType("vmlab.course")
    vmlab.__path__, course.__path__ = [], [box]

    def of_vmlab(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        kit = importlib.import_module("vmlab.course.kit")
        return kit.__dict__[name] if name in kit.__dict__ else Absent(f"vmlab.{name}")

    def of_course(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Quiet()

    def question(path: str, *args: Any, **kwargs: Any) -> Any:
        if path not in questions:
            raise NotInJudge(f"there is no question {path!r}")
        return unwire(questions[path])

    vmlab.__dict__.update(__getattr__=of_vmlab, course=course)
    course.__dict__.update(__getattr__=of_course, question=question)
    sys.modules.update({"vmlab": vmlab, "vmlab.course": course})
    sys.meta_path.append(Placeholders())


def confine(limits: dict[str, int]) -> list[str]:
    """Give up root and set the resource limits; returns what could not be done (for the report, loudly)."""
    trouble: list[str] = []
    try:
        import resource
    except ImportError:
        return ["this system has no resource limits"]
    uid = limits.pop("UID", 0)
    for name, value in limits.items():
        try:
            which = getattr(resource, "RLIMIT_" + name)
            hard = resource.getrlimit(which)[1]
            cap = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(which, (cap, cap))
        except (AttributeError, ValueError, OSError) as error:
            trouble.append(f"limit {name} could not be set ({error})")
    if uid:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        except OSError as error:
            trouble.append(f"could not give up root ({error})")
    return trouble


def unwire(wire: Any) -> Any:
    """Wire form → Python values (see plain.py)."""
    if isinstance(wire, list):
        return [unwire(x) for x in wire]
    if isinstance(wire, dict):
        if "d" in wire:
            return {unwire(k): unwire(v) for k, v in wire["d"]}
        return {unwire(x) for x in wire["s"]}
    return wire


def wire(value: Any, depth: int = 0) -> Any:
    """Python values → wire form. Generous about containers (tuple, deque, Counter, range, namedtuple, IntEnum…): only data leaves."""
    if depth > MAX_DEPTH:
        raise NotPlain(f"it is nested more than {MAX_DEPTH} levels deep (or contains itself)")
    if value is None or value is Ellipsis or value is True or value is False:
        return None if value is Ellipsis else value
    if isinstance(value, int):
        return int.__add__(value, 0)
    if isinstance(value, float):
        number = float.__add__(value, 0.0)
        if number - number != 0:
            raise NotPlain("it contains nan or infinity, which is no number")
        return number
    if isinstance(value, str):
        return str.__getitem__(value, slice(None))
    if isinstance(value, dict):
        return {"d": [[wire(k, depth + 1), wire(v, depth + 1)] for k, v in dict.items(value)]}
    if isinstance(value, (set, frozenset)):
        items = [wire(x, depth + 1) for x in value]
        try:
            items.sort()
        except TypeError:
            items.sort(key=repr)
        return {"s": items}
    plural = type(value).__name__ in ("deque", "array", "dict_keys", "dict_values", "dict_items", "generator", "map", "filter", "zip")
    if isinstance(value, (list, tuple, range, bytes, bytearray)) or plural:
        return [wire(x, depth + 1) for x in value]
    if isinstance(value, (Absent, Quiet)):
        raise NotPlain("it was computed with a part of vmlab that does not exist where answers are judged: write the value itself")
    raise NotPlain(f"it contains an object of the class {type(value).__name__}")


def describe(error: BaseException) -> dict[str, Any]:
    """What went wrong in a student's code, as data: class, text, and the line of the cell it happened in."""
    try:
        text = str(error)[:500]
    except BaseException:  # a hostile or broken __str__ must not take the runner down
        text = ""
    where, line, name = "", 0, ""
    tb = error.__traceback__
    while tb is not None:
        code = tb.tb_frame.f_code
        if code.co_filename.startswith("<cell "):
            where, line, name = code.co_filename[6:-1], tb.tb_lineno, code.co_name
        tb = tb.tb_next
    if isinstance(error, SyntaxError) and str(error.filename).startswith("<cell "):
        where, line, text = str(error.filename)[6:-1], error.lineno or 0, str(error.msg)
    return {"kind": "raised", "type": type(error).__name__, "text": text, "cell": where, "line": line, "function": name}


def prepare(source: str) -> str:
    """Blank out what only IPython understands (`%magic`, `!command`, `name?`), keeping the line numbers."""
    try:
        ast.parse(source)
        return source
    except (SyntaxError, ValueError):
        pass
    lines = source.split("\n")
    first = next((i for i, x in enumerate(lines) if x.strip()), 0)
    if lines[first].startswith("%%"):
        magic = lines[first][2:].split(" ")[0].strip()
        if magic not in ("time", "timeit", "capture", "prun"):
            return ""
        lines[first] = ""
    for i, text in enumerate(lines):
        bare = text.strip()
        indent = text[: len(text) - len(text.lstrip())]
        if bare.startswith(("%", "!", "?")) or (bare.endswith("?") and "#" not in bare):
            lines[i] = indent + "pass"
        else:
            target, equals, right = bare.partition("=")
            if equals and right.strip().startswith(("!", "%")) and target.strip().isidentifier():
                lines[i] = f"{indent}{target.strip()} = None"
    return "\n".join(lines)


class Runner:
    """Answers the parent's requests one by one until the parent closes the pipe or kills the process."""

    def __init__(self, box: str, requests: int, replies: int) -> None:
        self.box, self.requests, self.replies = box, requests, replies
        self.buffer = b""
        self.module = types.ModuleType("__main__")
        self.write: Callable[[int, bytes], int] = os.write
        self.dumps, self.loads = json.dumps, json.loads

    def send(self, message: dict[str, Any]) -> None:
        raw = self.dumps(message, allow_nan=False).encode("utf-8", "replace") + b"\n"
        while raw:
            raw = raw[self.write(self.replies, raw):]

    def receive(self) -> dict[str, Any] | None:
        while b"\n" not in self.buffer:
            chunk = os.read(self.requests, 1 << 16)
            if not chunk:
                return None
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        message: dict[str, Any] = self.loads(line)
        return message

    def load(self, cells: list[list[str]]) -> list[dict[str, Any]]:
        """Run the cells in order; one that fails is noted and the others still run."""
        errors: list[dict[str, Any]] = []
        space = self.module.__dict__
        for number, (label, source) in enumerate(cells):
            self.send({"at": number})
            name = f"<cell {label}>"
            try:
                text = prepare(source)
                linecache.cache[name] = (len(text), None, [line + "\n" for line in text.split("\n")], name)
                exec(compile(text, name, "exec", dont_inherit=True), space)
            except BaseException as error:  # SystemExit and KeyboardInterrupt included: nothing in a cell ends the judging
                errors.append({**describe(error), "cell": label})
        return errors

    def answer(self, request: dict[str, Any]) -> Any:
        space = self.module.__dict__
        op = request["op"]
        names = [request["name"]] if "name" in request else list(request.get("names", []))
        missing = [n for n in names if n not in space]
        if missing:
            return {"error": {"kind": "missing", "name": missing[0]}}
        if op == "value":
            result = space[request["name"]]
        elif op == "call":
            function, data = space[request["name"]], unwire(request["data"])
            if not callable(function):
                return {"error": {"kind": "uncallable", "name": request["name"]}}
            result = function(**data) if isinstance(data, dict) else function(*data)
        else:
            module, _, function = request["driver"].partition(":")
            driver = getattr(importlib.import_module(f"vmlab.course.kit.{module}"), function)
            result = driver(space, unwire(request["data"]))
        try:
            return {"ok": wire(result)}
        except NotPlain as error:
            return {"error": {"kind": "notplain", "text": str(error), "type": type(result).__name__}}

    def serve(self) -> None:
        first = self.receive()
        if first is None:
            return
        trouble = confine(first["limits"])
        make_vmlab(self.box, first["questions"])
        sys.modules["__main__"] = self.module
        helper = Quiet()
        self.module.__dict__.update(__builtins__=__builtins__, get_ipython=helper, display=helper)
        self.send({"id": first["id"], "ready": trouble})
        while (request := self.receive()) is not None:
            reply: dict[str, Any]
            try:
                reply = {"errors": self.load(request["cells"])} if request["op"] == "load" else self.answer(request)
            except BaseException as error:
                reply = {"error": describe(error)}
            try:
                self.send({"id": request["id"], **reply})
            except (ValueError, TypeError, RecursionError, MemoryError) as error:
                self.send({"id": request["id"], "error": {"kind": "notplain", "text": str(error)[:200], "type": ""}})


def main() -> None:
    """Take the pipes away from the student's code, then serve."""
    box = os.path.dirname(os.path.abspath(__file__))
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    sys.dont_write_bytecode = True
    Runner(box, requests, replies).serve()
    os._exit(0)


if __name__ == "__main__":
    main()
