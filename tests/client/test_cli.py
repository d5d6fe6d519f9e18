"""`kinrec` as a process: what it lists, how it refuses, how it ends."""

import subprocess
import sys

import pytest

KINREC = (sys.executable, "-m", "kinrec.cli")


def kinrec(*arguments):
    """Run `kinrec` to its end."""
    return subprocess.run(
        [*KINREC, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def refusal(*arguments):
    """The one line with which bad usage is refused."""
    done = kinrec(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    return line


def test_help_lists_all_commands():
    """Every command is listed, with what it does."""
    done = kinrec("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("train", "evaluate", "verify", "inspect", "serve", "pin", "call", "sample-data"):
        assert f"    {name}" in done.stdout


def test_help_imports_no_command():
    """What commands are made of is imported when one is asked for, not before."""
    code = (
        "import sys; from kinrec.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted(name for name in sys.modules if name in ('grpc', 'numpy', 'google')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_no_command():
    """Without a command there is one line."""
    assert "--help" in refusal()


def test_an_unknown_command():
    """A command that does not exist is named."""
    assert "'trian'" in refusal("trian")


def test_bad_usage_of_a_command():
    """A flag that cannot be read is named, in one line, without the whole usage."""
    line = refusal("call", "recommend", "--limit", "ten")
    assert line.startswith("kinrec call recommend: argument --limit: ")


@pytest.mark.parametrize("name", ["call", "serve", "verify"])
def test_help_of_a_command(name):
    """A command explains its arguments."""
    done = kinrec(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: kinrec {name}" in done.stdout
