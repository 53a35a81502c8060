"""nbgrader's configuration for this course: solutions/ is released to exercises/, and scores come from vmlab's judge."""

import sys
from pathlib import Path

root = Path(__file__).resolve().parent
if str(root) not in sys.path:
    sys.path.insert(0, str(root))  # a checkout that was not installed

from vmlab.course.bridge import configure  # noqa: E402

configure(get_config(), root)  # type: ignore[name-defined]  # noqa: F821
