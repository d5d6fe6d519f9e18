"""Builds the image with buildah on a base made by debootstrap, and runs it as Docker would: no daemon needed.

Everything is built in a folder of its own and removed at the end.
"""

from __future__ import annotations

import ast
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parents[2]
SUITE = "trixie"
# The base has no headers and no venv, as an image that only runs Python need not.
BUILD_PACKAGES = "g++ python3-dev python3-venv"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

SLIM = ("usr/share/doc", "usr/share/info", "usr/share/locale", "usr/share/man")

# Of the settings of pip here, those that say how an index is reached; paths of this machine are left out.
REACHING = {"default-timeout", "extra-index-url", "index-url", "proxy", "retries", "timeout"}
REACHING |= {"trusted-host"}
CERTIFICATES = "/etc/pip-cert.pem"

# What Docker does with `--read-only --mount …,dst=/models,readonly --security-opt no-new-privileges`.
SANDBOX = """
set -eu
root=$1 store=$2 user=$3
shift 3
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind "$store" "$root/models"
mount -o remount,bind,ro "$root/models"
mount -o remount,bind,ro "$root"
ip link set lo up
exec chroot "$root" setpriv --reuid="${user%:*}" --regid="${user#*:}" --clear-groups --no-new-privs \\
    --pdeathsig KILL "$@"
"""


def bounded(seconds: int, *command: str | Path) -> str:
    """Run a program and its children for so many seconds at most, and give what it printed."""
    done = subprocess.run(
        ["timeout", "--kill-after=10", str(seconds), *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


@dataclass(frozen=True)
class Buildah:
    """Buildah with a storage of its own.

    Attributes:
        folder: Where it is.
    """

    folder: Path

    def __call__(self, *arguments: str | Path, seconds: int = 120) -> str:
        """Run a command of buildah and give what it printed."""
        storage = ("--root", self.folder / "storage", "--runroot", self.folder / "run")
        command = ("buildah", *storage, "--storage-driver", "vfs", *arguments)
        return bounded(seconds, *command).strip()


@dataclass(frozen=True)
class Image:
    """The built image.

    Attributes:
        root: Its files.
        config: What its last lines say: Cmd, Entrypoint, Env, Healthcheck, User.
    """

    root: Path
    config: dict

    @property
    def command(self) -> list[str]:
        """What it runs."""
        return [*self.config["Entrypoint"], *self.config["Cmd"]]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of what it runs."""
        return dict(line.split("=", 1) for line in self.config["Env"])


@pytest.fixture(scope="session")
def buildah() -> Iterator[Buildah]:
    """Buildah with an empty storage, whose containers are unmounted at the end."""
    with tempfile.TemporaryDirectory(prefix="kinrec-image-") as name:
        run = Buildah(Path(name))
        try:
            yield run
        finally:
            run("rm", "--all")


@pytest.fixture(scope="session")
def base(buildah: Buildah) -> str:
    """The name of an image of Debian with python3 and, as in slim images, no manuals and little else."""
    start = time.monotonic()
    root = buildah.folder / "debian"
    bounded(540, "debootstrap", "--variant=minbase", "--include=python3", SUITE, root)
    for folder in ("var/cache/apt", "var/lib/apt/lists", *SLIM):
        bounded(60, "find", root / folder, "-type", "f", "-delete")
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, root, "/")
    buildah("config", "--env", f"PATH={PATH}", container)
    buildah("commit", "--quiet", "--format", "docker", container, "localhost/base", seconds=240)
    buildah("rm", container)
    bounded(60, "rm", "-r", root)
    say(f"the base, Debian {SUITE}, took {time.monotonic() - start:.0f} s")
    return "localhost/base"


@pytest.fixture(scope="session")
def image(buildah: Buildah, base: str) -> Image:
    """The image, built with the Dockerfile."""
    start = time.monotonic()
    arguments = ["--isolation", "chroot", "--format", "docker", "--pull-never", "--tag", "kinrec"]
    arguments += ["--build-arg", f"BASE={base}", "--build-arg", f"BUILD_PACKAGES={BUILD_PACKAGES}"]
    for source, target in pip_files(buildah.folder):
        arguments += ["--volume", f"{source}:{target}:ro"]
    buildah("bud", *arguments, PROJECT, seconds=900)
    inspected = json.loads(buildah("inspect", "--type", "image", "kinrec"))
    container = buildah("from", "--pull-never", "kinrec")
    root = Path(buildah("mount", container))
    (root / "models").mkdir()  # Docker makes the point where it mounts
    say(f"the image took {time.monotonic() - start:.0f} s")
    return Image(root, inspected["Docker"]["config"])


def pip_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Write how pip reaches its index from here, for the build alone: files, and where to mount each."""
    listed = {}
    for line in bounded(60, sys.executable, "-m", "pip", "config", "list").splitlines():
        name, _, quoted = line.partition("=")
        listed[name] = str(ast.literal_eval(quoted))
    settings = {}
    for name in sorted(listed, key=lambda name: name.startswith(":env:")):  # the environment wins
        key, value = name.rpartition(".")[2], listed[name]
        if key == "cert":
            yield Path(value).resolve(), CERTIFICATES
            settings[key] = CERTIFICATES
        elif key in REACHING:
            settings[key] = " ".join(word for word in value.split() if "file:" not in word)
    file = folder / "pip.conf"
    lines = [f"{key} = {value}\n" for key, value in settings.items() if value]
    file.write_text("".join(["[global]\n", *lines]))
    yield file, "/etc/pip.conf"


@dataclass(frozen=True)
class Running:
    """A container that runs.

    Attributes:
        image: What runs.
        pid: Its first process.
        process: What waits for its end; the exit code is that of the first process.
        address: Where it serves.
    """

    image: Image
    pid: int
    process: subprocess.Popen
    address: str

    def execute(self, *command: str) -> subprocess.CompletedProcess:
        """Run a command inside, as `docker exec` does."""
        user, _, group = self.image.config["User"].partition(":")
        enter = ("nsenter", "--target", str(self.pid), "--mount", "--pid", "--net", "--root")
        return subprocess.run(
            [*enter, "--setuid", user, "--setgid", group, "--", *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self.image.environment,
        )


@contextlib.contextmanager
def running(
    image: Image, store: Path, *more: str, own_network: bool = False, **environment: str
) -> Iterator[Running]:
    """Run the image with a read-only root, as its user, and wait until it serves.

    Args:
        image: The image.
        store: What is mounted as /models.
        more: What is added to its command.
        own_network: Whether it has 127.0.0.1 to itself, as in Docker.
        environment: What is added to its environment.
    """
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    command += ["--net"] * own_network
    command += ["sh", "-c", SANDBOX, "sh", image.root, store, image.config["User"]]
    with subprocess.Popen(
        [*command, *image.command, *more],
        env=image.environment | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("kinrec: serving "), process.communicate(timeout=30)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            yield Running(image, int(children), process, line.split()[-1])
        finally:
            process.kill()


def say(text: str) -> None:
    """Print what was measured."""
    sys.stdout.write(f"\nimage-test: {text}\n")
