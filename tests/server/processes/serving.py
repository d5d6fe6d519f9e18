"""Versions to serve, and what asks a server of several processes."""

import contextlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

import grpc
from google.protobuf import json_format

from kinrec.bundle.v1.manifest_pb2 import Manifest, Mix
from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub

KINREC = Path(sys.executable).with_name("kinrec")
FIRST, SECOND = "20010101T000000Z", "20020101T000000Z"
ASKED = pb.RecommendRequest(events=[pb.Event(item_id="i3"), pb.Event(item_id="i7")], limit=5)


def make_version(trained, store, version, source="popularity"):
    """Put a version into a store that recommends by one source alone, and give its directory."""
    bundle = store / version
    beside = store / f".{version}"
    shutil.copytree(trained, beside)
    path = beside / "manifest.json"
    manifest = json_format.Parse(path.read_text("utf-8"), Manifest(), ignore_unknown_fields=True)
    manifest.version = version
    weights = {source: 1.0}
    del manifest.blend.mixes[:]
    manifest.blend.mixes.append(Mix(min_events=1, weights=weights, weights_with_seen=weights))
    path.write_text(json_format.MessageToJson(manifest, preserving_proto_field_name=True), "utf-8")
    beside.rename(bundle)
    return bundle


@contextlib.contextmanager
def calling(address, method="Recommend"):
    """Give a call on a connection of its own."""
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield getattr(RecommenderServiceStub(channel), method)


def version_of(address):
    """Ask which version answers."""
    with calling(address, "GetModel") as call:
        return call(pb.GetModelRequest(), timeout=10, wait_for_ready=True).version


def wait_until(holds, seconds=20):
    """Wait for what must come true."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)


def workers_of(process):
    """Give the process ids of a server's workers."""
    done = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False
    )
    return [int(line) for line in done.stdout.split()]
