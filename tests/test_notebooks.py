"""Does every notebook run from top to bottom, saying nothing on stderr?"""

from __future__ import annotations

import os
import shutil

import nbformat
import pytest
from nbclient import NotebookClient

from tests.helpers import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A new reader's own place: a copy of notebooks/ and a home without settings, history or kept answers."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints", ".vmlab"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    return tmp_path / "notebooks"


def test_there_is_a_start_page():
    assert ROOT / "notebooks" / "00-start.ipynb" in NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_runs(path, reader):
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(reader)}})
    client.execute()  # raises with the traceback at the first cell that fails
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and all(cell.execution_count for cell in code)
    complaints = {
        cell.id: output.text for cell in code for output in cell.outputs if output.output_type == "stream" and output.name == "stderr"
    }
    assert not complaints, f"a reader would see warnings: {complaints}"
