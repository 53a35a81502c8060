"""The corpus: hostile code, together with the hostile and the honest files of corpus.py. All on the toy exercise.

`python -m tests.course.attacks` prints docs/grader.md. Each attack goes into a submission in which nothing else is answered, so that
whatever it earns, it gained by the attack.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from tests.course import toy
from tests.course.corpus import FILES, HONEST, RELEASE, SOURCE, Attack
from vmlab.course import testing
from vmlab.course.result import Result

MARKER = "vmlab-daemon-marker"  # on the command line of the process an attack leaves behind


def code(name: str, what: str, source: str, says: str) -> Attack:
    """An attack that is code in the solution cell of the task buddy-of; everything else is untouched."""
    return Attack(name, what, testing.edited(RELEASE, {"buddy-of": source}), says)


def returning(expression: str, before: str = "") -> str:
    return f"{before}\ndef buddy_of(pfn, order):\n    return {expression}\n"


def doing(*lines: str) -> str:
    body = "\n".join("    " + line for line in "\n".join(lines).split("\n"))
    return f"def buddy_of(pfn, order):\n{body}\n    return 0\n"


ORACLE = """
def stolen(pfn, order):
    import gc, os, sys
    for name in ("tests.course.toy", "vmlab.course.exercise", "vmlab.course.ex06", "vmlab.mm.page_alloc"):
        try:
            module = __import__(name, fromlist=["x"])
            return module.buddy({"pfn": pfn, "order": order})
        except BaseException:
            pass
    for thing in gc.get_objects():
        if type(thing).__name__ in ("Task", "Case", "Exercise", "Verdict"):
            return thing
    frame = sys._getframe()
    while frame is not None:
        for value in list(frame.f_locals.values()) + list(frame.f_globals.values()):
            if isinstance(value, dict) and "expected" in value:
                return value["expected"]
        frame = frame.f_back
    for top, folders, files in os.walk("/"):
        for file in files:
            if file in ("toy.py", "00-toy.ipynb", "exercise.py", "judge.py", "gradebook.db") or file.startswith("ex0"):
                return open(os.path.join(top, file)).read()
    return -1
"""

ATTACKS = [
    code(
        "equal-to-everything",
        "returns an object equal to everything",
        returning("Magic()", "class Magic:\n    def __eq__(self, other): return True\n    def __hash__(self): return 0"),
        "an object of the class Magic",
    ),
    code(
        "int-in-disguise",
        "returns an int subclass whose == is always true",
        returning(
            "Magic(-5)",
            "class Magic(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\n"
            "    __xor__ = __add__ = lambda s, o: s",
        ),
        "expected",
    ),
    code(
        "input-transformer",
        "strips the checks with an IPython input transformer",
        returning(
            "0",
            """
ip = get_ipython()
ip.input_transformers_cleanup.append(lambda lines: [])
ip.ast_transformers.append(None)
""",
        ),
        "expected",
    ),
    code(
        "replaces-the-runner",
        "finds the runner in memory and makes it claim success",
        returning(
            "0",
            """
import gc, sys
for thing in gc.get_objects():
    if type(thing).__name__ == "Runner":
        thing.answer = lambda request: {"ok": True, "points": 999, "passed": True, "earned": 2}
        type(thing).answer = lambda self, request: {"ok": True}
""",
        ),
        "expected",
    ),
    code(
        "writes-the-protocol",
        "writes forged replies to every open descriptor",
        returning(
            "0",
            """
import json, os
for fd in range(3, 64):
    for number in range(1, 60):
        try:
            os.write(fd, (json.dumps({"id": number, "ok": 0, "errors": [], "points": 2}) + "\\n").encode())
        except OSError:
            break
""",
        ),
        "wrote into the connection",
    ),
    code(
        "patches-json",
        "monkeypatches json and the builtins",
        returning(
            "0",
            """
import json, builtins
json.dumps = lambda *a, **k: '{"id": 1, "ok": true}'
json.JSONEncoder.encode = lambda *a: "{}"
builtins.isinstance = lambda *a: True
""",
        ),
        "",
    ),
    code(
        "steals-answers",
        "looks for the answers: imports, memory, frames, the whole file system",
        ORACLE + returning("stolen(pfn, order)"),
        "does not exist where answers are judged",
    ),
    code(
        "reads-requests",
        "reads the pipe to see the hidden inputs first",
        doing(
            "import os", "for fd in range(3, 10):", "    try: os.set_blocking(fd, False); os.read(fd, 100000)", "    except OSError: pass"
        ),
        "expected",
    ),
    code(
        "knows-public-cases",
        "returns the published answers to the published inputs",
        returning("{(8, 0): 9, (8, 3): 0}.get((pfn, order), 1)"),
        "",
    ),
    code(
        "right-only-once",
        "answers rightly in the first run only (a counter in a file)",
        doing(
            "import os",
            "n = int(open('/tmp/n').read()) if os.path.exists('/tmp/n') else 0",
            "open('/tmp/n', 'w').write(str(n + 1))",
            "if n < 3: return pfn ^ (1 << order)",
        ),
        "",
    ),
    code(
        "swallows",
        "catches every exception and returns nothing",
        doing("try: raise AssertionError", "except BaseException: return None"),
        "expected",
    ),
    code("sys-exit", "calls sys.exit(0)", doing("import sys", "sys.exit(0)"), "SystemExit"),
    code("os-exit", "calls os._exit(0)", doing("import os", "os._exit(0)"), "exit code 0"),
    code("kills-itself", "kills its process", doing("import os, signal", "os.kill(os.getpid(), signal.SIGKILL)"), "killed"),
    code(
        "kills-parent",
        "kills its parent and everything it may",
        doing(
            "import os, signal", "for pid in (os.getppid(), 1, -1):", "    try: os.kill(pid, signal.SIGKILL)", "    except OSError: pass"
        ),
        "expected",
    ),
    code("segfault", "crashes the interpreter", doing("import ctypes", "ctypes.string_at(0)"), ""),
    code("endless", "loops for ever", doing("while True: pass"), "did not finish within 1 second"),
    code(
        "endless-deaf",
        "loops for ever and ignores every signal",
        doing(
            "import signal",
            "for n in range(1, 32):",
            "    try: signal.signal(n, signal.SIG_IGN)",
            "    except (OSError, ValueError): pass",
            "while True:",
            "    try:",
            "        while True: pass",
            "    except BaseException: pass",
        ),
        "did not finish within 1 second",
    ),
    code("endless-cell", "loops for ever while the cell runs", "while True: pass\n", "did not finish"),
    code("memory", "allocates 8 GiB", doing("x = bytearray(8 << 30)", "x[::4096] = b'x' * (len(x) // 4096)"), "MemoryError"),
    code("recursion", "recurses without end", "def buddy_of(pfn, order):\n    return buddy_of(pfn, order)\n", "RecursionError"),
    code(
        "deletes-files",
        "deletes every file it can reach",
        doing(
            "import os, shutil",
            "for top in ('/', '/tmp', '/root', '/home', os.path.expanduser('~')):",
            "    shutil.rmtree(top, ignore_errors=True)",
        ),
        "",
    ),
    code(
        "fork-bomb",
        "forks without end",
        doing("import os", "while True:", "    try: os.fork()", "    except OSError: pass"),
        "did not finish",
    ),
    code(
        "daemon",
        "leaves a daemon behind",
        doing(
            "import os, sys",
            "if os.fork() == 0:",
            "    os.setsid()",
            "    if os.fork() == 0:",
            f"        os.execv(sys.executable, [sys.executable, '-S', '-c', 'import time; time.sleep(600)', '{MARKER}'])",
            "    os._exit(0)",
        ),
        "expected",
    ),
    code("flood-stdout", "prints without end", doing("while True: print('x' * 10000)"), "did not finish"),
    code(
        "flood-reply",
        "floods the reply pipe",
        doing(
            "import os",
            "while True:",
            "    for fd in range(3, 12):",
            "        try: os.write(fd, b'x' * 65536)",
            "        except OSError: pass",
        ),
        "output",
    ),
    code(
        "fills-disk",
        "fills the disk",
        doing("for n in range(10000):", "    with open(f'/tmp/{n}', 'wb') as f: f.write(b'x' * 900000)"),
        "OSError",
    ),
    code("closes-pipes", "closes every descriptor", doing("import os", "os.closerange(0, 256)", "while True: pass"), ""),
    code(
        "network",
        "sends the inputs out",
        doing("import socket", "socket.create_connection(('127.0.0.1', 9), timeout=1)"),
        "it stopped with",
    ),
    code(
        "writes-gradebook",
        "opens the grade book and gives itself full marks",
        doing(
            "import glob, sqlite3",
            "for path in glob.glob('/**/gradebook.db', recursive=True):",
            "    sqlite3.connect(path).execute('update grade set auto_score = 99')",
        ),
        "",
    ),
    code(
        "atexit-tricks",
        "answers from atexit, threads, __del__ and a trace function",
        returning(
            "Late()",
            """
import atexit, sys, threading
class Late:
    def __del__(self): sys.exit(0)
atexit.register(lambda: print("points: 999"))
threading.Thread(target=lambda: sys.exit(1)).start()
sys.settrace(lambda *a: None)
""",
        ),
        "an object of the class Late",
    ),
    code(
        "pickle",
        "returns an object that runs code when unpickled",
        returning(
            "Bomb()",
            """
class Bomb:
    def __reduce__(self): return (eval, ("__import__('os').system('touch /tmp/owned')",))
""",
        ),
        "an object of the class Bomb",
    ),
    code("nan", "returns NaN", returning("float('nan')"), ""),
    code("huge-int", "returns a number of 30,000 digits", returning("10 ** 30000"), ""),
    code("deep", "returns a list nested 100,000 deep", doing("x = []", "for _ in range(100000): x = [x]", "return x"), "nested"),
    code("circular", "returns a list that contains itself", doing("x = []", "x.append(x)", "return x"), "contains itself"),
    code("big-answer", "returns 50 MB", returning("'x' * 50_000_000"), ""),
    code("surrogates", "returns broken Unicode and terminal escapes", returning(r"'\ud800\x1b[2J<script>alert(1)</script>'"), "expected"),
    code("html-in-error", "puts HTML into its error message", doing("raise ValueError('<script>alert(1)</script>' * 3)"), "ValueError"),
    *FILES,
]


@functools.cache
def run(attack: Attack) -> Result:
    """Judge one entry of the corpus."""
    return testing.judge_file(toy.EXERCISE, attack.raw, SOURCE)


HEADER = """# The judge under attack

This table is made by `python -m tests.course.attacks > docs/grader.md`, and `tests/course/test_attacks.py` fails when it no longer holds.
Each hostile submission answers nothing else, so every point would be a point gained by the attack. “Should be” is the aim of the
corresponding table about nbgrader 0.9.6 and otter 7.0.0, where most of these earned full marks, lost the whole submission, or stopped
the batch.

How it works: student code runs in a child process (bubblewrap: no network, no files, an own process tree and user; limits on time, memory,
processes, output) that holds no answer and no test; inputs are generated from a secret seed for each run, twice; the parent accepts plain
JSON and judges it against the core. What the child says about itself is never believed.

"""


def table() -> str:
    """docs/grader.md: what every entry of the corpus earns."""
    lines = [HEADER, f"## Hostile submissions (each out of {toy.EXERCISE.points:g})\n", "| submission | earns | should be |", "|--|--|--|"]
    for attack in ATTACKS:
        lines.append(f"| {attack.what} | {run(attack).earned:g} | {attack.may_earn:g} |")
    lines += [
        f"\n## Honest submissions a grader can fail (each out of {toy.EXERCISE.points:g})\n",
        "| submission | earns | should be |",
        "|--|--|--|",
    ]
    for entry in HONEST:
        lines.append(f"| {entry.what} | {run(entry).earned:g} | {toy.EXERCISE.points:g} |")
    lines.append(
        "\nA notebook that is missing or a symbolic link, and folders of no exercise, are covered by `tests/course/test_grade.py`."
    )
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


if __name__ == "__main__":
    text = table()
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text, encoding="utf-8")
    else:
        print(text, end="")
