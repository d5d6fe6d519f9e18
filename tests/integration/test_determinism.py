"""The same data and seed give the same bundle."""

import json
import os
import subprocess
import sys

import pytest

from kinrec.engine.store import find_bundle

SIZES = ["--epochs", "2", "--vector-size", "16", "--hidden-size", "16", "--factors", "8"]


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Trains on a small log with the real command and gives the bundle."""
    place = tmp_path_factory.mktemp("determinism")
    kinrec = [sys.executable, "-m", "kinrec.cli"]
    # One thread: sums that threads share out come out differently each time.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def run(*arguments):
        subprocess.run([*kinrec, *arguments], check=True, capture_output=True, env=environment)

    run("sample-data", "--users", "80", "--items", "60", "--seed", "3", "--out", place / "log")

    def train(name, *settings):
        store = place / name / "shop"
        events, items = place / "log" / "events.csv", place / "log" / "items.csv"
        run("train", "--events", events, "--items", items, "--out", store, *SIZES, *settings)
        return find_bundle(store)

    return train


def contents(bundle):
    """Give the bytes of every file but the manifests, by path."""
    return {
        path.relative_to(bundle): path.read_bytes()
        for path in bundle.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }


def manifests(bundle):
    """Give the manifests without their times and versions, by path."""
    found = {}
    for path in bundle.rglob("manifest.json"):
        manifest = json.loads(path.read_text("utf-8"))
        del manifest["create_time"], manifest["version"]
        found[path.relative_to(bundle)] = manifest
    return found


def test_the_same_seed_gives_the_same_bytes(train):
    """Two trainings differ in the manifest's times and version only; another seed in the model."""
    one, two = train("one"), train("two")

    assert len(contents(one)) > 30
    assert contents(one) == contents(two)
    assert manifests(one) == manifests(two)

    other = train("three", "--seed", "43")

    assert (one / "encoder.onnx").read_bytes() != (other / "encoder.onnx").read_bytes()
