"""Make the environment in .venv: `make setup` (what a reader needs) or `make setup-dev` (and what the tests need).

Uses uv if it is on PATH; otherwise makes a venv and brings uv into it with pip, which is far quicker than letting pip
check the hashes of a hundred packages; and if even that cannot be had, pip does the whole work. A second run finds the
stamp of the first and is over at once.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
WINDOWS = os.name == "nt"

NO_VENV = """\
This Python ({python}) cannot make a virtual environment: its venv module is missing.
  Debian, Ubuntu: apt install python3-venv
  or install uv:  it makes one without that package
then run the same command again."""


def say(text: str) -> None:
    """Print one line of progress, at once even when make's output goes to a file."""
    print(f"vmlab set-up: {text}", flush=True)


def run(*command: str | pathlib.Path, env: dict[str, str] | None = None) -> bool:
    """Run a command with its own progress bars on the terminal; True if it succeeded."""
    return subprocess.run([str(part) for part in command], cwd=ROOT, env=env).returncode == 0


def in_venv(venv: pathlib.Path, name: str) -> pathlib.Path:
    """The path of an executable of the environment."""
    return venv / ("Scripts" if WINDOWS else "bin") / (f"{name}.exe" if WINDOWS else name)


def fingerprint(requirements: pathlib.Path) -> str:
    """What the environment depends on; a stamp with another fingerprint is out of date."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {ROOT}".encode())
    for path in (requirements, ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def works(venv: pathlib.Path) -> bool:
    """True if the environment's Python runs: it does not where the environment was moved or its Python upgraded away."""
    python = in_venv(venv, "python")
    return python.exists() and run(python, "-c", "")


def make_venv(venv: pathlib.Path, uv: str | None) -> bool:
    """Make an empty environment, replacing a broken one."""
    if works(venv):
        return True
    if venv.exists():
        say(f"{venv} is broken (moved, or its Python is gone): making it anew")
        shutil.rmtree(venv)
    if uv is not None:
        return run(uv, "venv", "--quiet", "--python", sys.executable, venv)
    # Debian keeps ensurepip in a package of its own; asking first gives a better message than venv does.
    if not run(sys.executable, "-c", "import venv, ensurepip"):
        print(NO_VENV.format(python=sys.executable), file=sys.stderr)
        return False
    return run(sys.executable, "-m", "venv", venv)


def pip(venv: pathlib.Path) -> list[str | pathlib.Path]:
    """The words that run the environment's own pip, put there first if uv made the environment without one."""
    python = in_venv(venv, "python")
    if subprocess.run([python, "-c", "import pip"], stderr=subprocess.DEVNULL).returncode:
        run(python, "-m", "ensurepip", "--default-pip")
    return [python, "-m", "pip", "install"]


def bring_uv(venv: pathlib.Path) -> str | None:
    """Install the pinned uv into the environment with pip; None if that cannot be done."""
    uv = in_venv(venv, "uv")
    if not uv.exists():
        say("no uv on PATH: fetching it into the environment (the rest is then ten times quicker)")
        run(*pip(venv), "--quiet", "--require-hashes", "-r", "requirements-uv.txt")
    return str(uv) if uv.exists() else None


def install(venv: pathlib.Path, uv: str | None, requirements: pathlib.Path) -> bool:
    """Install the pinned packages, each checked against its hash, and vmlab itself from this checkout."""
    if uv is not None:
        installer: list[str | pathlib.Path] = [uv, "pip", "install", "--python", in_venv(venv, "python")]
        done = run(*installer, "--require-hashes", "-r", requirements)
    if uv is None or not done:
        # pip has ways to the packages that uv lacks: its configuration may name a proxy or a certificate.
        say("uv could not do it: pip tries, which takes a minute or two")
        installer = pip(venv)
        if not run(*installer, "--require-hashes", "-r", requirements):
            return False
    # The build backend is one of the pinned packages, so nothing unpinned is fetched for this step.
    return run(*installer, "--quiet", "--no-deps", "--no-build-isolation", "--editable", ".")


def main(argv: list[str] | None = None) -> int:
    """Set the environment up if it is not; 0 if it is ready."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dev", action="store_true", help="also what the tests need")
    parser.add_argument("--venv", type=pathlib.Path, default=ROOT / ".venv", help="where (default: .venv)")
    options = parser.parse_args(argv)
    venv: pathlib.Path = options.venv.absolute()
    stamp, stamp_dev = venv / "vmlab-setup", venv / "vmlab-setup-dev"
    requirements = ROOT / ("requirements-dev.txt" if options.dev else "requirements.txt")

    # The developer's list contains the reader's, so its stamp serves both.
    for done, pinned in ((stamp, requirements), (stamp_dev, ROOT / "requirements-dev.txt")):
        if not (options.dev and done is stamp) and done.exists() and done.read_text() == fingerprint(pinned) and works(venv):
            return 0

    began = time.monotonic()
    say(f"an environment in {venv} with {requirements.name} (the first run takes a while, later ones nothing)")
    uv = shutil.which(os.environ.get("UV", "uv"))
    if not make_venv(venv, uv):
        return 1
    if not install(venv, uv or bring_uv(venv), requirements):
        say("failed; the lines above say at what. Run the same command again once that is mended.")
        return 1
    (stamp_dev if options.dev else stamp).write_text(fingerprint(requirements))
    say(f"ready after {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
