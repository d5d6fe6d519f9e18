"""Carried states through a server: signed, refused where they were changed, answered by who gave them."""

import hmac
import itertools
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from kinrec.engine import Engine, InvalidStateError, VerifiedState
from kinrec.server.app import RecommenderServer
from kinrec.server.config import ServerConfig
from kinrec.server.engines import Engines
from kinrec.server.states import MAX_STATE_BYTES, StateKeys
from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub

KINREC = Path(sys.executable).with_name("kinrec")
KEY, OTHER = "k" * 32, "o" * 40
CALLS = {
    "EncodeSequence": pb.EncodeSequenceRequest,
    "SimilarUsers": pb.SimilarUsersRequest,
    "Recommend": pb.RecommendRequest,
}


@pytest.fixture(scope="module")
def real_engine(bundle_store):
    """The engine of a trained bundle."""
    return Engine.load(bundle_store)


@pytest.fixture
def serve(open_channel):
    """Start servers around engines, with keys, and give the stub of each."""
    servers = []

    def start(engines, keys=KEY):
        config = ServerConfig(port=0, state_keys=StateKeys.parse(keys))
        server = RecommenderServer(engines, config)
        server.start()
        servers.append(server)
        return RecommenderServiceStub(open_channel(server))

    yield start
    for server in servers:
        assert server.stop(0).wait(10)


def some_events(count, seed=1):
    """Give events of items that the model knows."""
    draw = random.Random(seed)
    return [pb.Event(item_id=f"i{draw.randrange(200)}", event_type="view") for _ in range(count)]


def refusal(stub, method="Recommend", **fields):
    """Make a call that must fail; return its code and its reason."""
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stub, method)(CALLS[method](**fields), timeout=30)
    details = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
    info = ErrorInfo()
    assert Status.FromString(details).details[0].Unpack(info)
    assert "send the history again" in caught.value.details()
    return caught.value.code(), info.reason


def test_any_replica_goes_on_where_another_left_off(real_engine, serve):
    """Events one by one through any call of two replicas: the answer to the whole, bit for bit."""
    replicas = [serve(Engines(real_engine)) for _ in range(2)]
    events, state = some_events(30), b""
    for place, event in enumerate(events):
        method = list(CALLS)[place % 3]
        request = CALLS[method](events=[event], state=state)
        state = getattr(replicas[place % 2], method)(request, timeout=30).state

    for method, make in CALLS.items():
        carried = getattr(replicas[0], method)(make(state=state), timeout=30)
        whole = getattr(replicas[1], method)(make(events=events), timeout=30)
        for answer in (whole, carried):
            answer.event_report.Clear()
            if method == "Recommend":  # the token is of the request, which is another
                answer.ClearField("next_page_token")
        assert carried == whole
        assert carried.state == state
        assert not carried.send_history


@pytest.mark.parametrize("method", CALLS)
def test_a_state_that_was_changed_is_refused(real_engine, serve, method):
    """Any flipped bit, any cut, anything added: INVALID_ARGUMENT with the reason STATE_INVALID."""
    stub = serve(Engines(real_engine))
    state = stub.EncodeSequence(pb.EncodeSequenceRequest(events=some_events(4)), timeout=30).state
    draw = random.Random(2)
    bad = [state[:-1], state[1:], state[:40], b"\0", state + b"\0", bytes(len(state))]
    for _ in range(20):
        flipped = bytearray(state)
        flipped[draw.randrange(len(state))] ^= 1 << draw.randrange(8)
        bad.append(bytes(flipped))
    for data in bad:
        code = refusal(stub, method, state=data, events=some_events(1))
        assert code == (grpc.StatusCode.INVALID_ARGUMENT, "STATE_INVALID")


def test_a_state_that_is_too_long_is_refused(real_engine, serve):
    """Beyond the limit nothing is read, whatever it is signed with, and nothing is handed out."""
    stub, keys = serve(Engines(real_engine)), StateKeys.parse(KEY)
    data = bytes(MAX_STATE_BYTES + 1)
    assert refusal(stub, state=data) == (grpc.StatusCode.INVALID_ARGUMENT, "STATE_INVALID")
    longest = bytes(MAX_STATE_BYTES - 32)
    sealed = keys.seal(longest)
    assert len(sealed) == MAX_STATE_BYTES
    assert keys.open(sealed) == longest
    assert keys.seal(longest + b"x") == b""
    signed = hmac.digest(KEY.encode(), longest + b"x", "sha256") + longest + b"x"
    with pytest.raises(InvalidStateError):
        keys.open(signed)


def test_a_key_is_replaced_without_a_refusal(real_engine, serve):
    """The new key below, then above, then alone: replicas of two steps in a row read each other."""
    steps = (KEY, f"{KEY}\n{OTHER}", f"{OTHER}\n{KEY}", OTHER)
    replicas = [serve(Engines(real_engine), keys) for keys in steps]
    states = [
        replica.Recommend(pb.RecommendRequest(events=some_events(3)), timeout=30).state
        for replica in replicas
    ]
    for one, other in itertools.pairwise(range(len(steps))):
        for giver, taker in ((one, other), (other, one)):
            request = pb.RecommendRequest(state=states[giver])
            assert replicas[taker].Recommend(request, timeout=30).recommendations
    found = refusal(replicas[-1], state=states[0])
    assert found == (grpc.StatusCode.INVALID_ARGUMENT, "STATE_INVALID")


def test_the_model_before_answers_its_states_until_it_ages_out(engine, serve):
    """The engine that gave a state answers it and says so; later, or where it is gone, it is stale."""
    older = type(engine)("v0")
    before = serve(Engines(older))
    state = before.Recommend(pb.RecommendRequest(user_id="u"), timeout=30).state

    stub = serve(Engines(engine, older, time.time() + 60))
    old = stub.Recommend(pb.RecommendRequest(state=state), timeout=30)
    new = stub.Recommend(pb.RecommendRequest(user_id="u"), timeout=30)
    assert (old.model_version, old.send_history) == ("v0", True)
    assert (new.model_version, new.send_history) == ("v1", False)

    aged = serve(Engines(engine, older, time.time() - 1))
    answer = aged.Recommend(pb.RecommendRequest(state=state), timeout=30)
    assert answer.model_version == "v1"  # the stand-in takes any state; a real engine refuses


def test_a_state_of_a_model_that_is_gone_is_stale(real_engine, engine, serve):
    """FAILED_PRECONDITION with the reason STATE_STALE."""
    state = serve(Engines(engine)).Recommend(pb.RecommendRequest(user_id="u"), timeout=30).state
    found = refusal(serve(Engines(real_engine)), state=state)
    assert found == (grpc.StatusCode.FAILED_PRECONDITION, "STATE_STALE")


def test_keys_have_a_least_length_and_are_at_most_two():
    """What cannot be a key is said by its place."""
    with pytest.raises(ValueError, match="key 2 must have at least 32 bytes, has 3"):
        StateKeys.parse(f"{KEY} abc")
    for text, count in (("", 0), (f"{KEY} " * 3, 3)):
        with pytest.raises(ValueError, match=f"must hold one key or two .*, holds {count}"):
            StateKeys.parse(text)


def test_what_was_signed_is_opened():
    """Nothing else is; an empty state needs no signature."""
    keys = StateKeys.random()
    assert keys.open(keys.seal(b"state")) == b"state"
    assert isinstance(keys.open(keys.seal(b"state")), VerifiedState)
    assert keys.open(keys.seal(b"")) == keys.seal(b"") == b""
    with pytest.raises(InvalidStateError):
        StateKeys.random().open(keys.seal(b"state"))


def run_serve(store, *flags, **environment):
    """Start `kinrec serve`; return the process and its first line."""
    process = subprocess.Popen(
        [KINREC, "serve", store, "--port", "0", "--drain-wait", "0", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": "/usr/bin:/bin", **environment},
    )
    return process, process.stdout.readline()


def ask(line, request):
    """Ask the server that said a line."""
    with grpc.insecure_channel(line.split()[-1]) as channel:
        return RecommenderServiceStub(channel).Recommend(request, timeout=30)


def end(process):
    """End a server and give what it said on standard error."""
    process.send_signal(signal.SIGTERM)
    return process.communicate(timeout=30)[1]


def test_processes_share_states_by_a_key(bundle_store, tmp_path):
    """A key of the environment is that of a file; without one a warning says what cannot be shared."""
    (tmp_path / "keys").write_text(f"{OTHER}\n{KEY}\n")
    one, said = run_serve(bundle_store, KINREC_STATE_KEY=KEY)
    two, said_too = run_serve(bundle_store, "--state-key-file", tmp_path / "keys")
    three, said_last = run_serve(bundle_store)
    try:
        state = ask(said, pb.RecommendRequest(events=some_events(3))).state
        assert ask(said_too, pb.RecommendRequest(state=state)).recommendations
        with pytest.raises(grpc.RpcError):
            ask(said_last, pb.RecommendRequest(state=state))
    finally:
        notes = [end(process) for process in (one, two, three)]
    warned = ["a key that no other server has" in note for note in notes]
    assert warned == [False, False, True]


@pytest.mark.parametrize(
    ("flags", "environment", "said"),
    [
        (["--state-key-file", "/no/such"], {}, "--state-key-file /no/such: No such file"),
        ([], {"KINREC_STATE_KEY": ""}, "KINREC_STATE_KEY: must hold one key or two"),
        ([], {"KINREC_STATE_KEY": "short"}, "KINREC_STATE_KEY: key 1 must have at least 32"),
        (["--previous-hours", "-1"], {}, "--previous-hours: must be from 0 to 8,760, not -1.0"),
    ],
)
def test_keys_that_cannot_be_used_are_refused_at_start(bundle_store, flags, environment, said):
    """One line that names where the key is and what is wrong, and the exit code 2."""
    process, line = run_serve(bundle_store, *flags, **environment)
    error = process.communicate(timeout=60)[1]
    assert (process.returncode, line) == (2, "")
    (found,) = error.splitlines()
    assert said in found


def test_the_version_before_in_the_store_answers_its_states(bundle_store, tmp_path):
    """After a new version the states of the old one are answered by it for a time, and then refused."""
    (old,) = [path for path in Path(bundle_store).iterdir() if path.is_dir()]
    store = tmp_path / "shop"
    store.mkdir()
    (store / old.name).symlink_to(old)
    first, said = run_serve(store, KINREC_STATE_KEY=KEY)
    state = ask(said, pb.RecommendRequest(events=some_events(3))).state
    end(first)
    newer = store / "29990101T000000Z"
    newer.mkdir()
    for path in old.iterdir():
        (newer / path.name).symlink_to(path)
    manifest = (newer / "manifest.json").read_text("utf-8").replace(old.name, newer.name)
    (newer / "manifest.json").unlink()
    (newer / "manifest.json").write_text(manifest, "utf-8")

    second, said = run_serve(store, KINREC_STATE_KEY=KEY)
    third, said_too = run_serve(store, "--previous-hours", "0", KINREC_STATE_KEY=KEY)
    try:
        answer = ask(said, pb.RecommendRequest(state=state))
        assert (answer.model_version, answer.send_history) == (old.name, True)
        fresh = ask(said, pb.RecommendRequest(events=some_events(3)))
        assert (fresh.model_version, fresh.send_history) == (newer.name, False)
        with pytest.raises(grpc.RpcError) as caught:
            ask(said_too, pb.RecommendRequest(state=state))
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    finally:
        end(second)
        end(third)


def test_a_page_token_is_no_state(real_engine, serve):
    """What is signed as one thing is not taken for another."""
    stub = serve(Engines(real_engine))
    token = stub.Recommend(pb.RecommendRequest(events=some_events(3))).next_page_token
    with pytest.raises(grpc.RpcError) as caught:
        stub.Recommend(pb.RecommendRequest(state=bytes.fromhex(token)))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith("state: ")


def test_pages_go_on_where_the_one_before_ended(real_engine, serve):
    """Pages of any sizes together are the long answer, with diversity and a filter too."""
    stub = serve(Engines(real_engine))
    for options in ({}, {"diversity": 0.4}):
        request = pb.RecommendRequest(events=some_events(9), limit=4, **options)
        whole = []
        for limit in (4, 7, 1, 8):
            request.limit = limit
            answer = stub.Recommend(request)
            assert len(answer.recommendations) == limit
            whole += [item.item_id for item in answer.recommendations]
            request.page_token = answer.next_page_token
        request.ClearField("page_token")
        request.limit = 20
        long = [item.item_id for item in stub.Recommend(request).recommendations]
        assert len(set(whole)) == 20
        assert whole == long
