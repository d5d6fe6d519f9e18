"""What `pip install kinrec` gives: a client without the server's and the trainer's libraries."""

import os
import re
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1.recommender_pb2_grpc import (
    RecommenderServiceServicer,
    add_RecommenderServiceServicer_to_server,
)

PROJECT = Path(__file__).parents[2]
_NO_INDEX = re.compile(
    r"NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|NameResolutionError"
    r"|Temporary failure in name resolution|Network is unreachable"
)


def run(*command, check=True):
    """Run a program outside of the project, so that nothing of it is importable by chance."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=200, check=False, env=environment, cwd="/"
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The bin folder of a new virtual environment with the built wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("install")
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation")
    run(*build, "--outdir", str(folder), str(PROJECT))
    (wheel,) = folder.glob("kinrec-*.whl")
    venv.create(folder / "venv", with_pip=True)
    bin_folder = folder / "venv" / "bin"
    pip = (str(bin_folder / "python"), "-m", "pip", "install", "--quiet")
    constraints = ("--constraint", str(PROJECT / "constraints.txt"))
    done = run(*pip, *constraints, str(wheel), check=False)
    if done.returncode and _NO_INDEX.search(done.stderr):
        pytest.skip("pip cannot reach a package index")
    assert done.returncode == 0, done.stderr
    return bin_folder


class _Shop(RecommenderServiceServicer):
    """Recommends the items it is shown."""

    def Recommend(self, request, context):  # noqa: N802, ARG002 - gRPC's names
        items = [pb.Recommendation(item_id=event.item_id, score=1) for event in request.events]
        return pb.RecommendResponse(recommendations=items, model_version="v1")


@pytest.fixture(scope="module")
def address():
    """The address of a server in this process."""
    server = grpc.server(ThreadPoolExecutor(2))
    add_RecommenderServiceServicer_to_server(_Shop(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    assert server.stop(0).wait(10)


def test_only_the_client_is_there(installed):
    """The client can be imported; what only the server and the trainer need is not installed."""
    code = (
        "import importlib.util as util, kinrec.client\n"
        "names = ('numpy', 'onnxruntime', 'torch', 'annoy', 'polars', 'marisa_trie')\n"
        "print([name for name in names if util.find_spec(name)])"
    )
    assert run(installed / "python", "-c", code).stdout == "[]\n"


def test_the_client_calls_a_server(installed, address):
    """The installed client asks a server and reads its answer."""
    code = (
        "from kinrec.client import Client, Event\n"
        f"with Client('{address}', timeout=20) as client:\n"
        "    answer = client.recommend([Event('i7', 'view')])\n"
        "print(answer.model_version, *(item.item_id for item in answer.recommendations))"
    )
    assert run(installed / "python", "-c", code).stdout == "v1 i7\n"


def test_the_command_calls_a_server(installed, address):
    """The installed `kinrec call` asks a server."""
    done = run(installed / "kinrec", "call", "recommend", "--event", "i7", "--target", address)
    assert "i7" in done.stdout.splitlines()[1]


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("train", "trainer"),
        ("evaluate", "trainer"),
        ("sample-data", "trainer"),
        ("serve", "server"),
        ("verify", "server"),
        ("inspect", "server"),
        ("top", "server"),
    ],
)
def test_a_command_names_the_extra_that_it_needs(installed, name, extra):
    """A command whose libraries are not installed says in one line how to get them."""
    done = run(installed / "kinrec", name, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == f"kinrec {name} needs the {extra}: install kinrec with its extra '{extra}'\n"
    )


def test_the_version(installed):
    """`kinrec --version` is the version of what is installed."""
    done = run(
        installed / "python",
        "-c",
        "from importlib import metadata as m; print(m.version('kinrec'))",
    )
    assert run(installed / "kinrec", "--version").stdout == f"kinrec {done.stdout}"
