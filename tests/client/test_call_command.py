"""`kinrec call` as a process, against a real server: what all questions have in common, and the plain ones."""

import json
import os
import signal
import subprocess
import sys

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from kinrec.v1 import recommender_pb2 as pb

from .conftest import RECOMMENDED, Refusal, failed, rich_details, sent


def test_errors_as_json(server, call, tmp_path):
    """With --json what ends a call is one line of JSON on standard error, of whatever kind."""
    details = rich_details("INVALID_FIELD", ("limit", "must be small"))
    text = "limit: must be small"
    server.script = [Refusal(grpc.StatusCode.INVALID_ARGUMENT, text, details)]
    line = failed(call("recommend", "--user", "u", "--json"), 1)
    assert json.loads(line) == {
        "error": {
            "message": text,
            "code": "INVALID_ARGUMENT",
            "reason": "INVALID_FIELD",
            "violations": [{"field": "limit", "rule": "must be small"}],
        }
    }
    line = failed(call("recommend", "--events", tmp_path / "none", "--json"), 2)
    assert json.loads(line)["error"] == {
        "message": f"{tmp_path / 'none'}: No such file or directory",
        "code": None,
        "reason": "",
        "violations": [],
    }
    server.script = [
        Refusal(grpc.StatusCode.FAILED_PRECONDITION, "gone", rich_details("STATE_STALE"))
    ]
    (tmp_path / "state").write_bytes(b"old")
    line = failed(call("rank", "i1", "--state", tmp_path / "state", "--json"), 1)
    error = json.loads(line)["error"]
    assert error["message"] == f"gone; remove {tmp_path / 'state'} to begin anew"
    assert error["reason"] == "STATE_STALE"


def test_encode(server, call):
    """The vector is shown eight numbers to a line."""
    server.script = [pb.EncodeSequenceResponse(vector=range(9), model_version="v1")]
    done = call("encode", "--event", "i7:view")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [float(number) for line in lines[:2] for number in line.split()] == list(range(9))
    assert lines[3] == "model v1; no known user; events: none"
    assert sent(server, pb.EncodeSequenceRequest).events[0].event_type == "view"


def test_encode_without_a_usable_event(server, call):
    """That there is no vector is said, and the report says why."""
    report = pb.EventReport(received=1, unknown_item=1)
    server.script = [pb.EncodeSequenceResponse(model_version="v1", event_report=report)]
    lines = call("encode", "--event", "ghost").stdout.splitlines()
    assert lines[0] == "no vector: no event could be used"
    assert lines[2].endswith("events: 1 received, 1 unknown item")


def test_similar_users(server, call):
    """Users are shown with their similarity, and with what they share if that is asked for."""
    users = [pb.SimilarUser(user_id="u1", similarity=0.5)]
    server.script = [pb.SimilarUsersResponse(similar_users=users)]
    done = call("similar-users", "--user", "u42", "--limit", "1")
    assert done.stdout.splitlines()[1].split() == ["1", "u1", "0.5000"]
    assert done.stdout.splitlines()[0].split() == ["user", "similarity"]
    assert sent(server, pb.SimilarUsersRequest).limit == 1
    users[0].shared_item_ids.extend(["i1", "i2"])
    server.script = [pb.SimilarUsersResponse(similar_users=users)]
    done = call(
        "similar-users", "--user", "u42", "--shared", "2", "--search-effort", "3", "--exact"
    )
    assert done.stdout.splitlines()[0].split() == ["user", "similarity", "shared", "items"]
    assert done.stdout.splitlines()[1].split() == ["1", "u1", "0.5000", "i1,", "i2"]
    request = pb.SimilarUsersRequest.FromString(server.calls[-1][1])
    assert (request.shared_items, request.search_effort, request.exact) == (2, 3, True)


def test_model(server, call):
    """The description of the model is shown field by field, and as JSON."""
    server.script = [
        pb.GetModelResponse(
            name="shop",
            create_time=Timestamp(seconds=1_767_225_600),
            event_types=["view", "buy"],
            attributes=[
                pb.Attribute(name="brand", kind=pb.Attribute.KIND_TEXT),
                pb.Attribute(name="price", kind=pb.Attribute.KIND_NUMBER),
            ],
        )
    ]
    lines = dict(line.split("  ", 1) for line in call("model").stdout.splitlines() if "  " in line)
    assert lines["event types"].strip() == "view, buy"
    assert lines["attributes"].strip() == "brand (text), price (number)"
    assert json.loads(call("model", "--json").stdout)["create_time"] == "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("data", "text", "code"), [(b"\x08\x01", "serving", 0), (b"\x08\x02", "not serving", 1)]
)
def test_health(server, call, data, text, code):
    """The exit code says whether the server takes calls."""
    server.script = [data]
    done = call("health")
    assert (done.stdout, done.returncode) == (f"{text}\n", code)


def test_a_refused_call(server, call):
    """A call that the server refuses ends with 1 and the server's own words."""
    server.script = [
        Refusal(grpc.StatusCode.NOT_FOUND, "user_id: not known", rich_details("UNKNOWN_USER"))
    ]
    line = failed(call("recommend", "--user", "nobody"), 1)
    assert line == "kinrec call recommend: user_id: not known"


def test_nobody_listens(call):
    """A server that is not there ends the call with 1."""
    line = failed(call("health", target="127.0.0.1:1"), 1)
    assert line == "kinrec call health: no server could be reached at 127.0.0.1:1"


def test_no_answer_in_time(server, call):
    """A timeout ends the call with 1."""
    server.gate.clear()
    line = failed(call("model", "--timeout", "0.2"), 1)
    assert line == "kinrec call model: no answer within 0.2 s"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--event", ":view"], "the item id is missing"),
        (["--event", "i::yesterday"], "not a time: 'yesterday'"),
        (["--event", "i::2026-01-01T00:00:00"], "a time needs a time zone"),
        (["--event", "i::nan"], "events[0].time"),
        (["--limit", "0"], "limit: must be from 1 to 1000, not 0"),
        (["--where", "genre"], "must be ATTR=VALUE, not 'genre'"),
        (["--where", "=war"], "must be ATTR=VALUE"),
        (["--where-not", 'genre=["war"'], "not a JSON list"),
        (["--min", "price=cheap"], "argument --min: not a number: 'cheap'"),
        (["--after", "since=soon"], "not a time: 'soon'"),
        (["--cap", "genre=1.5"], "not a whole number: '1.5'"),
        (["--search-effort", "0"], "search_effort: must be from 1 to 100, not 0"),
        (["--timeout", "-1"], "timeout: must be a positive number"),
        (["--events", "no-such-file"], "no-such-file: No such file or directory"),
    ],
)
def test_bad_usage(server, call, arguments, words):
    """What cannot be sent ends with 2 and one line that names it, and is not sent."""
    assert words in failed(call("recommend", *arguments), 2)
    assert server.calls == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"item_id": "i"}\n{"item_id": ', "line 2: not JSON"),
        (b'["i"]', "line 1: must be a JSON object with an item_id"),
        (b'{"item": "i"}', "line 1: must be a JSON object with an item_id"),
        (b'{"item_id": "i", "timestamp": "soon"}', "line 1: not a time: 'soon'"),
        (
            b'{"item_id": "i", "type": "buy"}',
            "line 1: an event has no field 'type'; its fields are",
        ),
        (b'{"item_id": 7}', "events[0].item_id: must be a string, not int"),
        (b"\xff\xfe", "not UTF-8 text"),
    ],
)
def test_a_bad_file_of_events(call, tmp_path, text, words):
    """A file that cannot be read ends with 2 and one line that names the place."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(text)
    assert words in failed(call("recommend", "--events", str(path)), 2)


def test_ctrl_c(server):
    """Ctrl-C during a call ends it with 130 and without a word."""
    server.gate.clear()
    command = [sys.executable, "-m", "kinrec.cli", "call", "model", "--timeout", "30"]
    process = subprocess.Popen(
        [*command, "--target", server.address], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert server.entered.wait(30)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (130, b"", b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_gone(server, unbuffered):
    """When the reader of standard output has gone, the command ends with 141 and without a word."""
    server.script = [RECOMMENDED]
    command = [sys.executable, "-m", "kinrec.cli", "call", "recommend", "--user", "u"]
    with subprocess.Popen(
        [*command, "--target", server.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    ) as process:
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == b""


def test_a_state_is_carried_by_a_file(server, call, tmp_path):
    """The file of --state is written after a call and sent with the next; JSON has it in base64."""
    path = tmp_path / "me.state"
    server.script = [pb.RecommendResponse(state=b"\0one"), pb.EncodeSequenceResponse(state=b"two")]
    assert call("recommend", "--event", "i1", "--state", path).returncode == 0
    assert path.read_bytes() == b"\0one"
    done = call("encode", "--event", "i2", "--state", path, "--json")
    assert json.loads(done.stdout)["state"] == "dHdv"
    assert path.read_bytes() == b"two"
    requests = [data for _, data in server.calls]
    assert pb.RecommendRequest.FromString(requests[0]).state == b""
    assert pb.EncodeSequenceRequest.FromString(requests[1]).state == b"\0one"


def test_a_state_that_cannot_be_kept_is_named(server, call, tmp_path):
    """A folder that is not there is one line; a refused state says what to do."""
    server.script = [pb.RecommendResponse(state=b"one")]
    path = tmp_path / "none" / "me.state"
    done = call("recommend", "--event", "i1", "--state", path)
    assert (done.returncode, "basis" in done.stdout) == (
        1,
        True,
    )  # the answer is shown all the same
    assert done.stderr == f"kinrec call recommend: --state {path}: No such file or directory\n"
    refusal = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "gone", rich_details("STATE_STALE"))
    server.script = [refusal]
    (tmp_path / "me.state").write_bytes(b"old")
    line = failed(call("recommend", "--event", "i1", "--state", tmp_path / "me.state"), 1)
    assert line == f"kinrec call recommend: gone; remove {tmp_path / 'me.state'} to begin anew"
    assert (tmp_path / "me.state").read_bytes() == b"old"
