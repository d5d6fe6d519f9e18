"""What is compiled and what is pinned: for whose CPU, and in which versions."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[1]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


def pins(path):
    """The versions that a file pins, by the names of the packages."""
    return {normal(name): version for name, version in PIN.findall((PROJECT / path).read_text())}


def normal(name):
    """A name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    ("machine", "march"), [("x86_64", ["-march=x86-64-v2"]), ("aarch64", []), ("arm64", [])]
)
def test_annoy_is_compiled_for_any_cpu_of_its_kind(machine, march, tmp_path):
    """On x86-64 a CPU since 2009 is named, elsewhere none, and never the one that compiles."""
    uname = tmp_path / "uname"
    uname.write_text(f"#!/bin/sh\necho {machine}\n")
    uname.chmod(0o755)
    done = subprocess.run(
        [PROJECT / "scripts" / "annoy-flags.sh"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    flags = done.stdout.strip().split(",")
    assert "-O3" in flags
    assert [flag for flag in flags if flag.startswith("-m")] == march


@pytest.mark.skipif(platform.machine() != "x86_64", reason="is about x86-64")
@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump, of binutils")
def test_annoy_has_no_instructions_of_newer_cpus():
    """The annoy that `make setup` compiled names no register of AVX: bundles search alike anywhere."""
    folder = Path(importlib.util.find_spec("annoy").origin).parent
    (library,) = folder.glob("annoylib*.so")
    done = subprocess.run(
        ["objdump", "--disassemble", library], capture_output=True, text=True, check=True
    )
    assert "%xmm" in done.stdout
    assert set(re.findall(r"%[yz]mm\d+", done.stdout)) == set()


@pytest.mark.parametrize("path", ["requirements/server.txt", "requirements/build.txt"])
def test_the_image_has_the_versions_of_make(path):
    """What the image installs are the versions of constraints.txt, each with its hashes."""
    assert pins(path).items() <= pins("constraints.txt").items(), "run make requirements"
    for block in re.split(r"\n(?=\S)", (PROJECT / path).read_text()):
        assert block.startswith("#") or "--hash=sha256:" in block


def test_the_image_has_all_that_the_server_needs():
    """Every library of the extra `server` is pinned for the image, and what they need in turn."""
    pinned, wanted = pins("requirements/server.txt"), set()
    waiting = [("kinrec", "server")]
    while waiting:
        package, extra = waiting.pop()
        for requirement in map(Requirement, metadata.requires(package) or []):
            needed = not requirement.marker or requirement.marker.evaluate({"extra": extra})
            if needed and normal(requirement.name) not in wanted:
                wanted.add(normal(requirement.name))
                waiting.append((requirement.name, ""))
    assert len(wanted) > 10
    assert wanted <= pinned.keys(), "run make requirements"
