"""The examples in the docstrings of the client run as they stand, against a real server."""

import asyncio
import doctest
import importlib
import pkgutil

import pytest

from kinrec import client as sdk

MODULES = [
    sdk,
    *(
        importlib.import_module(f"{sdk.__name__}.{module.name}")
        for module in pkgutil.iter_modules(sdk.__path__)
        if not module.ispkg
    ),
]
EXAMPLES = {
    test.name: test
    for module in MODULES
    for test in doctest.DocTestFinder(exclude_empty=True).find(module)
    if test.examples
}


def test_there_are_examples():
    """The finder finds them: those of the package, of methods and of values."""
    found = {name.removeprefix("kinrec.client") for name in EXAMPLES}
    assert {
        "",
        "._options.AnyOf",
        "._options.Options",
        "._options.Query",
        "._session.Session",
        "._streams.AsyncRecommendStream",
        "._streams.RecommendStream",
    } <= found
    questions = {
        "encode_sequence",
        "similar_users",
        "recommend",
        "recommend_stream",
        "rank",
        "similar_items",
        "batch_encode",
        "batch_recommend",
    }
    assert {f"._sync.Client.{question}" for question in questions} <= found


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name, address):
    """Every line of it gives what it shows."""
    test = EXAMPLES[name]
    for example in test.examples:
        example.source = example.source.replace("localhost:50051", address)
    with sdk.Client(address, timeout=30) as client:
        names = {name: getattr(sdk, name) for name in sdk.__all__}
        test.globs = {**names, "asyncio": asyncio, "client": client}
        said = []
        doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert not said, "".join(said)
