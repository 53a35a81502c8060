"""What the tests need that no Python package brings: a Chromium to drive and bubblewrap for the sandbox.

`python scripts/system.py` looks for both and installs what is missing where that is possible (Debian, as root).
It never fails: the tests that miss something say so loudly, and fail instead of skipping when CI=true.
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
    missing = [] if find_chromium() else ["chromium"]
    if shutil.which("bwrap") is None and sys.platform == "linux":
        missing.append("bubblewrap")
    if missing:
        apt_install(missing)
    print(f"vmlab tests: Chromium: {find_chromium() or 'NONE: the browser tests cannot run'}")
    print(f"vmlab tests: bubblewrap: {shutil.which('bwrap') or 'NONE: student code runs without its sandbox'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
