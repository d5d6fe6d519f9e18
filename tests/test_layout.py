"""How the project is laid out: one namespace over three roots, typed, with a thin client."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
ROOTS = ("client_sdk", "server", "trainer")


def leaf_packages():
    """The packages that are imported by name: below `kinrec`, and below `kinrec.bundle`."""
    for root in ROOTS:
        kinrec = PROJECT / root / "kinrec"
        for parent in (kinrec, kinrec / "bundle"):
            for folder in sorted(parent.glob("*/")):
                if folder.name not in ("bundle", "__pycache__"):
                    yield folder


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("package", ["kinrec", "kinrec/bundle"])
def test_the_namespace_has_no_init(root, package):
    """One `__init__.py` here would hide the other roots' half of the namespace."""
    assert not (PROJECT / root / package / "__init__.py").exists()


def test_every_package_says_that_it_is_typed():
    """A type checker heeds the hints of a package with a py.typed only."""
    packages = list(leaf_packages())
    assert len(packages) == 8
    assert [package for package in packages if not (package / "py.typed").exists()] == []


def test_the_client_is_thin():
    """The client and its command import nothing that needs an extra."""
    code = (
        "import sys, kinrec.client, kinrec.cli, kinrec.client.commands.call\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    imported = set(done.stdout.split())
    assert {"kinrec", "grpc", "google"} <= imported
    assert not imported & {
        "numpy",
        "onnxruntime",
        "annoy",
        "torch",
        "polars",
        "rich",
        "marisa_trie",
    }
