"""Does `make lab` take a fresh clone to the start page, and does the set-up explain itself where it cannot?"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from scripts import system
from tests.helpers import ROOT
from vmlab.tools.lab import START_PAGE


def clean_environment(home: pathlib.Path) -> dict[str, str]:
    """The environment of somebody who has just logged in: no active venv, no make above us, nothing of Jupyter's."""
    drop = ("MAKE", "MFLAGS", "VIRTUAL_ENV", "PYTHON", "JUPYTER", "IPYTHON", "PYTEST", "UV_PROJECT")
    env = {key: value for key, value in os.environ.items() if not key.startswith(drop)}
    # What uv and pip downloaded before may be used again; everything else under the home directory is new.
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    env.setdefault("UV_CACHE_DIR", str(cache / "uv"))
    env.setdefault("PIP_CACHE_DIR", str(cache / "pip"))
    if "PIP_CONFIG_FILE" not in env:
        for config in (pathlib.Path.home() / ".config" / "pip" / "pip.conf", pathlib.Path.home() / ".pip" / "pip.conf"):
            if config.is_file():
                env["PIP_CONFIG_FILE"] = str(config)
    env["PATH"] = os.pathsep.join(part for part in env["PATH"].split(os.pathsep) if not part.startswith(sys.prefix + os.sep))
    env["PYTHON"] = getattr(sys, "_base_executable", sys.executable)
    env.update(HOME=str(home), JUPYTER_RUNTIME_DIR=str(home / "runtime"))
    return env


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A fresh clone of what is committed."""
    place = tmp_path_factory.mktemp("fresh") / "a clone of vmlab"  # a path with spaces is an ordinary path
    done = subprocess.run(["git", "clone", "--quiet", str(ROOT), str(place)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place


def wait_for_server(runtime: pathlib.Path, process: subprocess.Popen[str], log: pathlib.Path, seconds: float = 300) -> dict[str, object]:
    """What the server that was started wrote about itself once it is up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            with contextlib.suppress(json.JSONDecodeError):  # half written
                return json.loads(path.read_text())
        time.sleep(0.2)
    raise AssertionError(f"make lab came to no server:\n{log.read_text()[-4000:]}")


@pytest.mark.setup
def test_make_lab_on_a_fresh_clone_comes_to_the_start_page(clone, tmp_path):
    env = clean_environment(tmp_path)
    log = tmp_path / "make-lab.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            ["make", "lab", "VMLAB_LAB_ARGS=--no-browser --port 0"],
            cwd=clone, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, text=True, start_new_session=True,
        )  # fmt: skip
    try:
        server = wait_for_server(tmp_path / "runtime", process, log)
        assert server["hostname"] == "127.0.0.1"
        assert pathlib.Path(str(server["root_dir"])) == clone

        def get(path: str) -> str:
            with urllib.request.urlopen(f"{server['url']}{path}?token={server['token']}", timeout=60) as answer:
                assert answer.status == 200
                return answer.read().decode()

        assert "jupyter-config-data" in get(f"lab/workspaces/vmlab/tree/{START_PAGE}")
        assert json.loads(get(f"api/contents/{START_PAGE}"))["type"] == "notebook"
        assert f"/lab/workspaces/vmlab/tree/{START_PAGE}" in log.read_text(), "the address shown is the start page's"
        extensions = {entry["name"] for entry in json.loads(get("lab/api/extensions"))}
        assert {"bqplot", "anywidget", "jupyter-widgets-jupyterlab-manager", "jupyter-nbgrader"} <= extensions
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    # The environment holds the clone's vmlab, wherever one stands, and its command.
    python = clone / ".venv" / "bin" / "python"
    where = subprocess.run(
        [python, "-c", "import vmlab; vmlab.boot(ram='16M'); print(vmlab.__file__)"],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert pathlib.Path(where.stdout.strip()).is_relative_to(clone)
    version = subprocess.run([clone / ".venv" / "bin" / "vmlab", "version"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert version.returncode == 0 and version.stdout.startswith("vmlab ")


@pytest.mark.setup
def test_a_second_set_up_finds_the_work_done_and_a_broken_one_is_mended(clone, tmp_path):
    env = clean_environment(tmp_path)

    def setup() -> str:
        done = subprocess.run(["make", "setup"], cwd=clone, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    setup()
    assert setup() == ""
    (clone / ".venv" / "bin" / "python").unlink()
    assert "broken" in setup(), "an environment without its Python is made anew, and the reader told"
    assert setup() == ""


def test_without_the_venv_module_the_set_up_says_what_to_install(tmp_path):
    # Debian's python3 without python3-venv: importing ensurepip fails.
    (tmp_path / "ensurepip.py").write_text("raise ImportError('no ensurepip here')")
    env = {**clean_environment(tmp_path), "PYTHONPATH": str(tmp_path), "UV": "no-such-uv"}
    command = [sys.executable, ROOT / "scripts" / "setup.py", "--venv", tmp_path / "venv"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "apt install python3-venv" in done.stderr and not (tmp_path / "vmlab-setup").exists()


def test_without_a_recent_python_the_set_up_says_so(tmp_path):
    for name in ("python3", "python3.13"):
        old = tmp_path / name
        old.write_text("#!/bin/sh\nexit 1\n")
        old.chmod(0o755)
    env = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(["/bin/sh", ROOT / "scripts" / "python", "-c", "print('ran')"], env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "Python 3.11 or later" in done.stderr
    env["PYTHON"] = sys.executable
    done = subprocess.run(["/bin/sh", ROOT / "scripts" / "python", "-c", "print('ran')"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "ran\n")


def test_the_browser_is_looked_for_in_the_documented_order(tmp_path, monkeypatch):
    for name in ("chromium", "google-chrome", "wished"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(system, "playwright_chromium", lambda: "playwright's own")
    monkeypatch.setenv("VMLAB_CHROMIUM", str(tmp_path / "wished"))
    assert system.find_chromium() == str(tmp_path / "wished")
    monkeypatch.setenv("VMLAB_CHROMIUM", str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match="VMLAB_CHROMIUM"):
        system.find_chromium()
    monkeypatch.delenv("VMLAB_CHROMIUM")
    for name in ("chromium", "google-chrome"):
        assert system.find_chromium() == str(tmp_path / name)
        (tmp_path / name).unlink()
    assert system.find_chromium() == "playwright's own"


def test_what_the_tests_lack_is_skipped_loudly_and_fails_in_ci(tmp_path):
    # A run of its own: a test that asks for a golden trace that is nowhere.
    (tmp_path / "test_lacking.py").write_text("from tests.helpers import golden\ndef test_lacking():\n    golden('no-such-trace')\n")
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", tmp_path, "-p", "no:cacheprovider", tmp_path]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CI": ""}
    here = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert here.returncode == 0 and "NOT TESTED ON THIS MACHINE" in here.stdout and "no-such-trace" in here.stdout
    ci = subprocess.run(command, cwd=tmp_path, env={**env, "CI": "true"}, capture_output=True, text=True)
    assert ci.returncode == 1 and "CI must not skip" in ci.stdout
