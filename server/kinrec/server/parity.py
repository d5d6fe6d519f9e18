"""Whether ``kinrec verify`` has found that a bundle gives the same answers however it is run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kinrec.engine import BundleError

if TYPE_CHECKING:
    from pathlib import Path

PARITY = "parity.json"


def require_parity(bundle: Path, fingerprint: bytes) -> None:
    """Refuse a bundle that was not verified or did not pass.

    Args:
        bundle: Its directory.
        fingerprint: What tells it from every other.

    Raises:
        BundleError: ``parity.json`` is not there or cannot be read, is of another bundle, or says that
            the bundle did not pass.
    """
    path = bundle / PARITY
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise _refused(path, "is not there; 'kinrec verify' writes it") from error
    except OSError as error:
        raise _refused(path, str(error.strerror)) from error
    except (ValueError, RecursionError) as error:
        raise _refused(path, "is not what 'kinrec verify' writes") from error
    match found:
        case {"fingerprint": str(of), "passed": bool(passed)}:
            pass
        case _:
            raise _refused(path, "is not what 'kinrec verify' writes")
    if of != fingerprint.hex():
        raise _refused(path, "is of another bundle")
    if not passed:
        raise _refused(path, "says that the bundle did not pass")


def _refused(path: Path, reason: str) -> BundleError:
    return BundleError(f"--require-parity: {path}: {reason}")
