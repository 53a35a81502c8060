"""Does the `vmlab` command say what it does, and what went wrong?"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.helpers import ROOT, golden


def vmlab(*arguments, cwd=ROOT, path=str(ROOT)):
    """Run `python -m vmlab …` as a person would; returns (exit status, stdout, stderr)."""
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-m", "vmlab", *map(str, arguments)], cwd=cwd, env=env, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_help_names_every_command():
    status, out, _ = vmlab("--help")
    assert status == 0
    assert all(command in out for command in ("lab", "verify", "grade", "version"))


@pytest.mark.parametrize("command", ["lab", "verify", "grade"])
def test_each_command_explains_itself(command):
    status, out, _ = vmlab(command, "--help")
    assert status == 0 and out.startswith(f"usage: vmlab {command}")


def test_version_is_the_one_in_pyproject():
    status, out, _ = vmlab("version")
    assert status == 0
    assert out.split()[1] in ("unknown", (ROOT / "pyproject.toml").read_text().partition('version = "')[2].partition('"')[0])


@pytest.mark.parametrize("arguments", [[], ["fly"], ["verify"], ["version", "--loudly"]])
def test_a_wrong_command_line_is_status_2_with_the_usage(arguments):
    status, out, err = vmlab(*arguments)
    assert status == 2 and out == "" and err.startswith("usage: vmlab")


def test_lab_in_the_wrong_directory_says_where_it_looked(tmp_path):
    status, _, err = vmlab("lab", "--dir", tmp_path)
    assert status == 1 and str(tmp_path) in err and "Traceback" not in err


def test_verify_replays_a_golden_trace():
    trace = golden("bootmem-a")
    status, out, err = vmlab("verify", trace)
    assert (status, err) == (0, "")
    assert out.startswith("bootmem-a: ") and out.rstrip().endswith(" operations, 0 divergences")


def test_verify_of_something_that_is_no_trace_is_status_2(tmp_path):
    not_a_trace = tmp_path / "letter.jsonl"
    not_a_trace.write_text("Dear reader,\n")
    for wrong in (not_a_trace, tmp_path / "absent.jsonl"):
        status, _, err = vmlab("verify", wrong)
        assert status == 2 and wrong.name in err and "Traceback" not in err


def test_a_reader_of_the_output_who_has_gone_is_no_traceback():
    read_end, write_end = os.pipe()
    os.close(read_end)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "vmlab", "version"], env=env, stdout=write_end, stderr=subprocess.PIPE, text=True)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, "")
