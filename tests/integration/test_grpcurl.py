"""A caller without the SDK and without the protos: grpcurl."""

import json
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent


def grpcurl(*arguments):
    """Run grpcurl without TLS."""
    return subprocess.run(
        [BIN / "grpcurl", "-plaintext", "-max-time", "30", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_reflection_lists_and_describes_the_service(address):
    """Grpcurl finds the service and its methods by reflection."""
    assert "kinrec.v1.RecommenderService" in grpcurl(address, "list").stdout.split()
    methods = grpcurl(address, "list", "kinrec.v1.RecommenderService").stdout.split()
    assert [method.rpartition(".")[2] for method in methods] == [
        "BatchEncode",
        "BatchRecommend",
        "EncodeSequence",
        "GetModel",
        "Rank",
        "Recommend",
        "RecommendStream",
        "SimilarItems",
        "SimilarUsers",
    ]


def test_recommend_answers(address):
    """A request in JSON gets recommendations and the report of its events."""
    request = {
        "events": [{"itemId": "i1", "eventType": "view", "time": "2026-01-01T00:00:00Z"}],
        "limit": 3,
    }
    done = grpcurl("-d", json.dumps(request), address, "kinrec.v1.RecommenderService/Recommend")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert len(answer["recommendations"]) == 3
    assert answer["event_report"]["received"] == 1
    assert answer["model_version"]


def test_an_error_shows_its_details(address):
    """The field and the rule are readable without the SDK."""
    done = grpcurl("-d", '{"limit": -1}', address, "kinrec.v1.RecommenderService/Recommend")
    assert done.returncode != 0
    assert "InvalidArgument" in done.stderr
    assert "google.rpc.ErrorInfo" in done.stderr
