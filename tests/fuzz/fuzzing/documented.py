"""The errors that docs/api.md promises. A call may end with no other."""

from __future__ import annotations

import re
from pathlib import Path

_PAGE = Path(__file__).parents[3] / "docs" / "api.md"
_TABLE = _PAGE.read_text("utf-8").partition("### ErrorReason")[2].partition("### Statuses")[0]

# The name of the status by the reason.
STATUS_OF: dict[str, str] = dict(re.findall(r"(?m)^\| `(\w+)` \| `(\w+)` \|", _TABLE))
if not STATUS_OF:
    raise RuntimeError(f"{_PAGE} has no table of reasons")
