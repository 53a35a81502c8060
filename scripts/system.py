"""What the tests need that no Python package brings: a Chromium and what Playwright needs to drive it, bubblewrap, valgrind.

`python scripts/system.py` looks for them and installs what is missing where that is possible (Debian, as root).
A machine that lacks something is no failure here: the tests that miss it say so loudly, and fail when CI=true.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """The Chromium to drive: $VMLAB_CHROMIUM, then one on PATH, then the one Playwright brought; None if none.

    Raises FileNotFoundError if $VMLAB_CHROMIUM is set to something that is not there: a wish is not a hint.
    """
    wish = os.environ.get("VMLAB_CHROMIUM")
    if wish:
        if shutil.which(wish) is None:
            raise FileNotFoundError(f"VMLAB_CHROMIUM is set to {wish!r}, and no such program is there")
        return shutil.which(wish)
    for name in CHROMIUM_NAMES:
        found = shutil.which(name)
        if found:
            return found
    return playwright_chromium()


def playwright_chromium() -> str | None:
    """The path of the browser `playwright install chromium` put somewhere, if it did."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    try:
        with sync_playwright() as playwright:
            path = playwright.chromium.executable_path
    except Exception:  # a Playwright that cannot start is one that has no browser for us
        return None
    return path if pathlib.Path(path).exists() else None


def driver_runs() -> bool:
    """True if the program Playwright drives browsers with starts: it needs a library that minimal images lack."""
    try:
        from playwright._impl._driver import compute_driver_executable
    except ImportError:
        return True  # nothing a Debian package could mend
    return subprocess.run([compute_driver_executable()[0], "--version"], capture_output=True).returncode == 0


def apt_install(packages: list[str]) -> bool:
    """Install Debian packages, as root on a Debian system; False where that cannot be done."""
    if shutil.which("apt-get") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    print(f"vmlab tests: apt-get install {' '.join(packages)}", flush=True)
    # A new machine's package lists are empty, and an old machine's may name files that are gone.
    subprocess.run(["apt-get", "update", "-q"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    return subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode == 0


def main() -> int:
    """Report what is there, install what is not, report what could not be had."""
    try:
        missing = [] if find_chromium() else ["chromium"]
    except FileNotFoundError as error:
        print(f"vmlab tests: {error}", file=sys.stderr)
        return 1
    if shutil.which("bwrap") is None and sys.platform == "linux":
        missing.append("bubblewrap")
    if shutil.which("valgrind") is None and sys.platform == "linux":
        missing += ["valgrind", "libc6-dbg"]  # without the symbols of ld.so valgrind refuses to start
    if not driver_runs():
        missing.append("libatomic1")
    if missing:
        apt_install(missing)
    print(f"vmlab tests: Chromium: {find_chromium() or 'NONE: the browser tests cannot run'}")
    print(f"vmlab tests: bubblewrap: {shutil.which('bwrap') or 'NONE: student code runs without its sandbox'}")
    print(f"vmlab tests: valgrind: {shutil.which('valgrind') or 'NONE: no program can be recorded'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
