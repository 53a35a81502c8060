"""`vmlab lab`: JupyterLab on the course's start page, on this machine only, with nothing in the way."""

from __future__ import annotations

import argparse
import importlib.util
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

START_PAGE = "notebooks/00-start.ipynb"

NOT_FOUND = """\
vmlab lab: the course's notebooks are not in {where} nor above it.
The notebooks come with the checkout, not with the package. Go there first, or name it: vmlab lab --dir PATH/TO/vmlab"""


def find_course(start: pathlib.Path) -> pathlib.Path | None:
    """The checkout that holds the start page: `start`, a directory above it, or where this package was installed from."""
    package = pathlib.Path(__file__).resolve().parents[2]
    for directory in (start, *start.parents, package):
        if (directory / START_PAGE).is_file():
            return directory
    return None


def lab_command(course: pathlib.Path, port: int | None = None, browser: bool = True) -> list[str]:
    """The command that starts JupyterLab on the start page.

    Args:
        course: the checkout, which becomes the server's root.
        port: a TCP port, 0 for any free one; None tries Jupyter's usual one and then the ones after it.
        browser: open the reader's web browser.

    Returns:
        The words of the command.
    """
    command = [sys.executable, "-m", "jupyterlab", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.root_dir={course}"]
    # A workspace of our own: the tabs a reader left open in other projects stay out, and ours stay out of theirs.
    command += [f"--LabApp.default_url=/lab/workspaces/vmlab/tree/{START_PAGE}"]
    # Nothing here calls home; lab_environment() keeps JupyterLab from asking whether it may.
    command += ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    # Warnings and the address, not a line for every request.
    command += ["--Application.log_level=WARN"]
    if port is not None:
        command.append(f"--ServerApp.port={port}")
    if not browser:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    return command


def lab_environment() -> dict[str, str]:
    """The environment JupyterLab starts in: ours, with our default settings where it looks for such.

    They are defaults: whatever a reader has set wins. Without them a question about news covers a corner of the first page.
    """
    ours = str(pathlib.Path(__file__).parent / "jupyter")
    paths = [ours, *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])]
    return {**os.environ, "JUPYTER_CONFIG_PATH": os.pathsep.join(paths)}


def main(argv: Sequence[str] = ()) -> int:
    """Run `vmlab lab`; returns JupyterLab's exit status, or 1 with one sentence if it cannot be started."""
    parser = argparse.ArgumentParser(
        prog="vmlab lab",
        description="Open the course in JupyterLab on its start page.",
        epilog="Any other option goes to `jupyter lab` as it is.",
    )
    parser.add_argument("--dir", type=pathlib.Path, default=None, help="the checkout (default: found from here upwards)")
    parser.add_argument("--port", type=int, default=None, help="TCP port; 0 for any free one")
    parser.add_argument("--no-browser", action="store_true", help="print the address instead of opening it")
    options, passed_on = parser.parse_known_args(argv)

    where = (options.dir or pathlib.Path.cwd()).absolute()
    course = find_course(where)
    if course is None or (options.dir and not where.is_relative_to(course)):
        print(NOT_FOUND.format(where=where), file=sys.stderr)
        return 1
    if importlib.util.find_spec("jupyterlab") is None:
        print("vmlab lab: JupyterLab is not installed for this Python. In the checkout, `make lab` does it all.", file=sys.stderr)
        return 1
    # nbgrader reads its configuration from the working directory, so the server starts in the course's.
    command = [*lab_command(course, options.port, not options.no_browser), *passed_on]
    if os.name == "posix":
        # Become JupyterLab: Ctrl-C and a termination then reach it and nobody else.
        os.chdir(course)
        sys.stdout.flush()
        os.execve(command[0], command, lab_environment())
    return subprocess.call(command, cwd=course, env=lab_environment())
