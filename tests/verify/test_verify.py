"""`kinrec verify`: a trained bundle answers the same by every way, and one that does not is found."""

import json
import math
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from rich.console import Console

from kinrec.cli import main
from kinrec.client import Event
from kinrec.engine import Engine
from kinrec.engine.store import fingerprint, read_manifest
from kinrec.server.app import RecommenderServer
from kinrec.server.config import ServerConfig
from kinrec.server.engines import Engines
from kinrec.server.parity import require_parity
from kinrec.server.security.tls import TlsFiles
from kinrec.trainer.weights import WEIGHTS
from kinrec.verify import asking
from kinrec.verify.commands.verify import _show
from kinrec.verify.verification import Wanted
from kinrec.verify.verification import verify as verify_bundle

WAYS = {
    *(("torch", size) for size in (1, 7, 64)),
    *(("onnx", size) for size in (7, 64, "carried")),
    ("stored", 1),
    *(("server", size) for size in (1, 8, "carried")),
}


def change_graph(copy):
    """Change one weight of the graph, and the checksums with it."""
    path = copy.path / "encoder.onnx"
    model = onnx.load(path, load_external_data=False)
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "projection")
    array = numpy_helper.to_array(weight).copy()
    array[0, 0] += 0.01
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    path.write_bytes(model.SerializeToString())
    copy.seal()


def change_embeddings(copy):
    """Change the embeddings of all items, and the checksums with them."""
    path = copy.path / "item_embeddings.npy"
    np.save(path, np.load(path) * np.float32(1.01))
    copy.seal()


def test_a_trained_bundle_passes(copy, verify):
    """Every way agrees, no bit differs where carried, and the bundle keeps what was found."""
    before = Engine.load(copy.path).fingerprint
    code, printed, errors = verify(copy.path.parent, people=20)

    assert (code, errors) == (0, "")
    found = copy.result()
    assert found["passed"]
    assert (found["version"], found["fingerprint"]) == (copy.path.name, before.hex())
    allowed = read_manifest(copy.path).parity.tolerance
    assert (found["tolerance"], found["skipped"], found["target"]) == (allowed, {}, None)
    rows = {
        (row["way"], "carried" if row["carried"] else row["at_once"]): row for row in found["rows"]
    }
    assert rows.keys() == WAYS
    for (way, how), row in rows.items():
        assert row["largest_difference"] <= row["allowed"] == (0 if how == "carried" else allowed)
        assert row["largest_difference"] == max(row["by_length"].values())
        assert row["top_20_overlap"]["least"] >= 0.95
        assert set(row["by_length"]) == (
            {"whole"} if way == "stored" else {*"12", "10", "50", "whole"}
        )
        assert row["sequences"] == 20 if way == "stored" else row["sequences"] > 60
    assert rows["torch", 1]["largest_difference"] > 0
    lines = printed.splitlines()
    assert len(lines) == len(WAYS) + 1
    assert lines[0].startswith("torch, 1 at once: passed, largest difference ")
    assert "server, carried: passed, largest difference 0, top 20 overlap 1.0000" in printed
    assert lines[-1].startswith(f"version {copy.path.name}, ")
    # It is still the same whole bundle, and a server may require what was found.
    assert Engine.load(copy.path).fingerprint == before
    require_parity(copy.path, before)


def test_the_same_seed_replays_the_same(copy, verify):
    """But for the time two results are equal, as JSON on standard output too."""
    code, printed, errors = verify(copy.path, "--json")
    first = copy.result()
    assert (code, errors, json.loads(printed)) == (0, "", first)
    verify(copy.path)
    assert copy.result() | {"time": first["time"]} == first


def test_a_graph_that_is_not_what_was_trained_fails(copy, verify):
    """Weights changed with their checksums: torch and what training stored show it.

    The exit code is 1, and a server that requires parity does not start.
    """
    change_graph(copy)
    Engine.load(copy.path)

    code, printed, errors = verify(copy.path)

    assert (code, errors) == (1, "")
    assert not copy.result()["passed"]
    assert copy.failed() == {("torch", 1), ("torch", 7), ("torch", 64), ("stored", 1)}
    assert "torch, 1 at once: failed, largest difference" in printed
    assert "people: failed; " in printed

    serve = [sys.executable, "-m", "kinrec.cli", "serve", copy.path, "--port", "0"]
    done = subprocess.run(
        [*serve, "--require-parity"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    file = copy.path / "parity.json"
    assert done.stderr == (
        f"kinrec serve: --require-parity: {file}: says that the bundle did not pass\n"
    )


def test_without_torch_the_rest_is_compared(copy, verify, monkeypatch):
    """It says why torch is skipped; embeddings changed with their checksums are still found."""
    monkeypatch.setitem(sys.modules, "torch", None)
    code, printed, _ = verify(copy.path)
    assert code == 0
    assert copy.result()["skipped"] == {"torch": "torch is not installed"}
    assert "\ntorch: skipped, torch is not installed\n" in printed
    assert "torch, " not in printed

    change_embeddings(copy)

    assert verify(copy.path)[0] == 1
    assert copy.failed() == {("stored", 1)}


def test_the_libraries_of_the_trainer_need_not_be_there(copy):
    """With what the extra `server` installs alone, the command runs."""
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(('torch', 'onnx', 'polars', 'narwhals', 'scipy', 'sklearn'))\n"
        "from kinrec.cli import main\n"
        "sys.exit(main(['verify', sys.argv[1], '--people', '2']))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, copy.path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\ntorch: skipped, torch is not installed\n" in done.stdout


def test_an_encoder_that_is_not_installed_is_skipped(copy, verify):
    """A bundle of a package that is gone, or from before weights were kept, is compared without torch."""
    path = copy.path / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    manifest["training_config"]["encoder"] = "markov"
    path.write_text(json.dumps(manifest), "utf-8")
    code, printed, _ = verify(copy.path)
    assert code == 0
    assert "torch: skipped, encoder = 'markov': must be one of " in printed

    del manifest["files"][WEIGHTS]
    path.write_text(json.dumps(manifest), "utf-8")
    code, printed, _ = verify(copy.path)
    assert code == 0
    assert f"torch: skipped, the bundle holds no {WEIGHTS}\n" in printed


def test_a_state_that_loses_a_bit_fails(copy, verify, monkeypatch):
    """Carried, no difference is small enough to be allowed."""
    encode = asking.AskEngine.encode

    def inexact(self, events, state=b""):
        answer = encode(self, events, state)
        return (
            answer._replace(vector=np.nextafter(answer.vector, np.float32(9))) if state else answer
        )

    monkeypatch.setattr(asking.AskEngine, "encode", inexact)

    assert verify(copy.path)[0] == 1
    assert copy.failed() == {("onnx", "carried")}


def test_a_vector_that_is_no_number_fails(copy, verify, monkeypatch):
    """Not-a-number is not taken for a small difference, and the result is JSON all the same."""
    encode = asking.AskServer.encode

    def broken(self, events, state=b""):
        answer = encode(self, events, state)
        return answer._replace(vector=answer.vector * np.float32(math.nan))

    monkeypatch.setattr(asking.AskServer, "encode", broken)

    assert verify(copy.path)[0] == 1
    assert copy.failed() == {("server", 1), ("server", 8), ("server", "carried")}
    assert copy.result()["rows"][-1]["largest_difference"] is None


RULES = ["--session-gap", "5", "--min-value", "2", "--missing-value", "drop", "--split", "temporal"]


def test_a_server_that_takes_no_event_fails(copy, verify, monkeypatch):
    """No vector agrees with nothing, not even with another that is none."""
    unknown = Event("an item that no one knows")
    monkeypatch.setattr(asking, "_sendable", lambda events: [unknown] * len(events))

    code, _, errors = verify(copy.path)

    assert (code, errors) == (1, "")
    assert copy.failed() == {("server", 1), ("server", 8), ("server", "carried")}


@pytest.mark.parametrize(("kind", "rules"), [("transformer", []), ("gru", RULES)])
def test_other_encoders_pass(tmp_path, verify, capsys, kind, rules):
    """One without a state goes on as exactly; sessions and values are kept as the log's were."""
    rows = [
        f"u{user},i{(user + step) % 16},{step + 9 * (step > 6)},{step % 5}"
        for user in range(30)
        for step in range(12)
    ]
    events, store = tmp_path / "ring.csv", tmp_path / "shop"
    events.write_text("user_id,item_id,timestamp,value\n" + "\n".join(rows) + "\n")
    flags = ["--epochs", "1", "--vector-size", "16", "--hidden-size", "16", "--factors", "8"]
    flags += ["--encoder", kind, *rules]
    assert main(["train", "--events", str(events), "--out", str(store), *flags]) == 0
    capsys.readouterr()

    code, printed, errors = verify(store)

    assert (code, errors) == (0, ""), printed
    assert "torch, 64 at once: passed" in printed


# A running server.


@pytest.fixture
def start(copy):
    """Starts a server of the copy as it is now and gives its address."""
    servers = []

    def start(**settings):
        server = RecommenderServer(
            Engines(Engine.load(copy.path)), ServerConfig(port=0, **settings)
        )
        server.start()
        servers.append(server)
        return server.address

    yield start
    for server in servers:
        server.stop(0).wait(10)


def test_a_running_server_is_asked(copy, verify, address):
    """With --target the server is a process of its own, and the result says which."""
    code, printed, errors = verify(copy.path, "--target", address)
    assert (code, errors) == (0, "")
    assert copy.result()["target"] == address
    assert "server, carried: passed" in printed


def test_a_server_that_asks_who_calls_is_asked(copy, verify, start, tmp_path, authority):
    """Over TLS and with a token, by the same flags as kinrec call; without them it refuses."""
    token, tokens = tmp_path / "shop.token", tmp_path / "tokens.toml"
    entry = subprocess.run(
        [sys.executable, "-m", "kinrec.cli", "token", "shop", "--out", token],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    tokens.write_text(entry)
    target = start(tls=TlsFiles(*authority.issue("server")), tokens=tokens)
    flags = ("--target", target, "--tls-ca", authority.root)
    code, printed, errors = verify(copy.path, *flags, "--token-file", token)
    assert (code, errors) == (0, "")
    assert "server, carried: passed" in printed
    code, _, errors = verify(copy.path, *flags)
    assert (code, "carries no token" in errors) == (2, True)
    code, _, errors = verify(copy.path, *flags, "--token-file", tmp_path / "none")
    assert code == 2
    assert errors.startswith("kinrec verify: --token-file ")


def test_a_server_that_recommends_otherwise_fails(copy, verify, start):
    """Vectors that agree are not enough: what is recommended has to."""
    path = copy.path / "manifest.json"
    whole = path.read_text("utf-8")
    manifest = json.loads(whole)
    for mix in manifest["blend"]["mixes"]:
        mix["weights"] = mix["weights_with_seen"] = {"popularity": 1.0}
    path.write_text(json.dumps(manifest), "utf-8")
    target = start()
    path.write_text(whole, "utf-8")

    assert verify(copy.path, "--target", target)[0] == 1

    assert copy.failed() == {("server", 1), ("server", 8)}
    overlap = copy.result()["rows"][-2]["top_20_overlap"]
    assert 0 <= overlap["least"] <= overlap["mean"] < 0.9


def test_a_server_of_another_version_is_refused(copy, verify, start):
    """Both versions are named in one line, with exit code 2, and nothing is written."""
    path = copy.path / "manifest.json"
    whole = path.read_text("utf-8")
    path.write_text(whole.replace(copy.path.name, "20010101T000000Z"), "utf-8")
    target = start()
    path.write_text(whole, "utf-8")

    code, printed, errors = verify(copy.path, "--target", target)

    assert (code, printed) == (2, "")
    assert errors == (
        f"kinrec verify: --target {target}: serves version '20010101T000000Z', "
        f"the bundle is {copy.path.name!r}\n"
    )
    assert not (copy.path / "parity.json").exists()


# What cannot be used.


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--people", "0"], "people = 0: must be from 1 to 100,000"),
        (["--seed", "-1"], "seed = -1: must be from 0 to 2,147,483,647"),
        (["--version", "1999"], "has no complete version '1999'"),
        (["--target", "127.0.0.1:1"], "--target 127.0.0.1:1: no server could be reached"),
        (["--target", ""], "kinrec verify: --target: must"),
    ],
)
def test_bad_usage_is_one_line(copy, verify, flags, said):
    """The flag and the rule are named, with exit code 2."""
    code, printed, errors = verify(copy.path.parent, *flags)

    assert (code, printed) == (2, "")
    (line,) = errors.splitlines()
    assert line.startswith("kinrec verify: ")
    assert said in line


def test_a_damaged_bundle_is_one_line(copy, verify):
    """It is refused as the server refuses it."""
    (copy.path / WEIGHTS).write_bytes(b"")
    code, printed, errors = verify(copy.path)
    assert (code, printed) == (2, "")
    assert f"{WEIGHTS}: has 0 bytes, the manifest says " in errors


def test_a_terminal_gets_a_table(copy, monkeypatch):
    """The largest difference of each way by the number of events."""
    monkeypatch.setitem(sys.modules, "torch", None)
    found = verify_bundle(copy.path, Wanted(people=2, seed=0), lambda _: None)
    console = Console(force_terminal=True, color_system=None, width=80, soft_wrap=True)
    with console.capture() as capture:
        _show(console, found)
    lines = capture.get().splitlines()
    assert lines[1].split() == ["1", "2", "10", "50", "whole", "mean", "least"]
    assert lines[-4].split() == ["server,", "carried", *"00000", "1.0000", "1.00"]
    assert max(map(len, lines)) <= 110
    assert fingerprint(copy.path).hex() == found.fingerprint
