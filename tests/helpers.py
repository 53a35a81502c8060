"""What many tests need: the golden traces, and skipping loudly."""

from __future__ import annotations

import os
import pathlib
from typing import NoReturn

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

# What was skipped for want of something this machine lacks; conftest.py prints it at the end of the run.
NOT_TESTED: list[str] = []


def skip_loudly(reason: str) -> NoReturn:
    """Skip a test because the machine lacks something, and say so at the end; where CI=true, fail instead."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"CI must not skip: {reason}", pytrace=False)
    if reason not in NOT_TESTED:
        NOT_TESTED.append(reason)
    pytest.skip(reason)


def golden_folders() -> list[pathlib.Path]:
    """Where golden traces are looked for, in order: $VMLAB_GOLDEN, shared/golden beside the checkout, tests/golden."""
    wish = os.environ.get("VMLAB_GOLDEN")
    folders = [ROOT.parent / "shared" / "golden", ROOT / "tests" / "golden"]
    return [folder for folder in ([pathlib.Path(wish)] if wish else []) + folders if folder.is_dir()]


def golden(name: str) -> pathlib.Path:
    """The golden trace called `name` ("buddy-a" or "buddy-a.jsonl.gz"); skips loudly if it is nowhere."""
    for folder in golden_folders():
        for candidate in (name, f"{name}.jsonl.gz", f"{name}.jsonl"):
            if (folder / candidate).is_file():
                return folder / candidate
    looked = ", ".join(map(str, golden_folders())) or "no folder of traces was found"
    skip_loudly(f"golden trace {name} not found ({looked}); set VMLAB_GOLDEN")
