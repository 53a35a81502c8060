"""Small things kept beside the notebook, in `.vmlab/`: predictions, attempts, orders. Plain JSON, independent of any widget."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any


class Store:
    """A dict in a file: read at once, written whole. A damaged or unwritable file costs the memory, never the notebook."""

    def __init__(self, name: str, student: str) -> None:
        safe = re.sub(r"[^\w.-]", "_", student) or "nobody"
        self.path = Path.cwd() / ".vmlab" / f"{name}-{safe}.json"
        self.data: dict[str, Any] = {}
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            self.data = found if isinstance(found, dict) else {}
        except (OSError, ValueError, RecursionError):
            pass

    def put(self, key: str, value: Any) -> None:
        """Set one entry (plain data) and write the file."""
        self.data[key] = value
        try:
            self.path.parent.mkdir(exist_ok=True)
            fd, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".tmp-")
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                json.dump(self.data, file, indent=1, sort_keys=True, ensure_ascii=False)
            os.replace(temporary, self.path)
        except OSError:
            pass
