"""One JupyterLab server on a temporary copy of the course, started the way `vmlab lab` starts it."""

from __future__ import annotations

import json
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence

import nbformat

from vmlab.tools.lab import lab_command, lab_environment

ROOT = pathlib.Path(__file__).resolve().parents[2]
COPIED = ("notebooks", "exercises", "solutions", "nbgrader_config.py")

# Every cell stays in the page, scrolled into view or not, so that a test can find it; nothing is saved unasked.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none", "autoStartDefaultKernel": True},
    "docmanager-extension/plugin": {"autosave": False},
}


def free_port() -> int:
    """A TCP port on the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LabServer:
    """JupyterLab on 127.0.0.1 with a root of its own under `scratch`; reader's settings and history stay untouched."""

    def __init__(self, scratch: pathlib.Path) -> None:
        self.root = scratch / "course"
        self.log = scratch / "server.log"
        self.token = secrets.token_hex(16)
        self.url = f"http://127.0.0.1:{free_port()}"
        self.scratch_notebooks = 0
        self.root.mkdir(parents=True)
        for name in COPIED:
            self.restore(name)
        for plugin, values in SETTINGS.items():
            path = scratch / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values))
        (scratch / "home").mkdir()
        env = {key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "IPYTHON"))}
        env["JUPYTER_CONFIG_PATH"] = lab_environment()["JUPYTER_CONFIG_PATH"]
        env.update(
            HOME=str(scratch / "home"),
            PYTHONPATH=os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            JUPYTER_CONFIG_DIR=str(scratch / "config"),
            JUPYTER_DATA_DIR=str(scratch / "data"),
            JUPYTER_RUNTIME_DIR=str(scratch / "runtime"),
            JUPYTERLAB_SETTINGS_DIR=str(scratch / "settings"),
            JUPYTERLAB_WORKSPACES_DIR=str(scratch / "workspaces"),
            IPYTHONDIR=str(scratch / "ipython"),
        )
        command = lab_command(self.root, port=int(self.url.rpartition(":")[2]), browser=False)
        command += [f"--IdentityProvider.token={self.token}", "--ServerApp.port_retries=0"]
        command += ["--LabApp.expose_app_in_browser=True", "--ServerApp.terminals_enabled=False"]
        with self.log.open("w") as log:
            # Its own process group: the server, its kernels and whatever they start end together.
            self.process = subprocess.Popen(
                command, cwd=self.root, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._wait_until_up()

    def restore(self, path: str) -> None:
        """Put a pristine copy of a file or folder of the checkout into the server's root, if the checkout has it."""
        source, target = ROOT / path, self.root / path
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
        elif source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)

    def write_notebook(self, cells: Sequence[str]) -> str:
        """Write a new notebook with these code cells; a cell beginning with `%%markdown` is prose. Returns its path."""
        self.scratch_notebooks += 1
        name = f"scratch-{self.scratch_notebooks}.ipynb"
        notebook = nbformat.v4.new_notebook()
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        for source in cells:
            prose = source.startswith("%%markdown")
            new = nbformat.v4.new_markdown_cell if prose else nbformat.v4.new_code_cell
            notebook.cells.append(new(source.removeprefix("%%markdown").lstrip("\n")))
        nbformat.write(notebook, self.root / name)
        return name

    def request(self, path: str, method: str = "GET") -> bytes:
        """The body of the server's answer to one request with the token."""
        request = urllib.request.Request(f"{self.url}{path}", method=method)
        request.add_header("Authorization", f"token {self.token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            body: bytes = answer.read()
        return body

    def end_kernels(self) -> None:
        """Shut down every session's kernel, so that no test pays for another's."""
        for session in json.loads(self.request("/api/sessions")):
            self.request(f"/api/sessions/{session['id']}", method="DELETE")

    def _wait_until_up(self, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.request("/api/status")
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        self.stop()
        raise RuntimeError(f"JupyterLab did not come up on {self.url}:\n{self.log.read_text()[-4000:]}")

    def stop(self) -> None:
        """End the server and its kernels, gently first."""
        if self.process.poll() is None:
            try:
                self.request("/api/shutdown", method="POST")
                self.process.wait(timeout=15)
            except (urllib.error.URLError, OSError, subprocess.TimeoutExpired):
                pass
        try:
            os.killpg(self.process.pid, 9)
        except ProcessLookupError:
            pass
        self.process.wait()
