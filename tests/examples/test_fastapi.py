"""The web service of examples/fastapi, asked by HTTP, before a real server."""

import asyncio
import importlib.util
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from kinrec.client import Client, Event

APP = Path(__file__).parents[2] / "examples" / "fastapi" / "app.py"


@pytest.fixture
def ask(address, monkeypatch):
    """Run a coroutine with an HTTP client of the web service."""
    spec = importlib.util.spec_from_file_location("app", APP)
    module = importlib.util.module_from_spec(spec)
    # FastAPI looks the annotations up in the module's namespace.
    monkeypatch.setitem(sys.modules, "app", module)
    spec.loader.exec_module(module)

    @asynccontextmanager
    async def web(target):
        monkeypatch.setenv("KINREC_TARGET", target)
        transport = httpx.ASGITransport(module.app)
        async with (
            module.app.router.lifespan_context(module.app),
            httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
        ):
            yield client

    def run(questions, target=address):
        async def main():
            async with web(target) as client:
                return [await question(client) for question in questions]

        return asyncio.run(main())

    return run


def clicks(*items):
    """A question: what visitor v did."""
    body = [{"item_id": item, "event_type": "view"} for item in items]
    return lambda client: client.post("/visitors/v/clicks", json=body)


def test_a_known_person(ask, address):
    """The answer is the server's."""
    (answer,) = ask([lambda client: client.get("/people/u1/recommendations?limit=3")])
    assert answer.status_code == 200
    with Client(address) as client:
        wanted = client.recommend(user_id="u1", limit=3).recommendations
    assert answer.json() == [{"item_id": one.item_id, "title": one.title} for one in wanted]


def test_a_visitor_is_known_by_all_clicks(ask, address):
    """A click is answered as all of the visitor's clicks together."""
    _, answer = ask([clicks("i7"), clicks("i9", "i11")])
    with Client(address) as client:
        events = [Event(item, "view") for item in ("i7", "i9", "i11")]
        wanted = client.recommend(events, limit=10).recommendations
    assert [one["item_id"] for one in answer.json()] == [one.item_id for one in wanted]


def test_a_click_may_have_no_type(ask):
    """The type of an event is optional."""
    (answer,) = ask([lambda client: client.post("/visitors/v/clicks", json=[{"item_id": "i7"}])])
    assert (answer.status_code, len(answer.json())) == (200, 10)


def test_what_the_caller_can_mend_is_said(ask):
    """A person who is not known is a 404, a field that breaks its rule a 422, with the reason."""
    unknown, invalid = ask(
        [
            lambda client: client.get("/people/nobody/recommendations"),
            lambda client: client.get("/people/u1/recommendations?limit=-1"),
        ]
    )
    assert (unknown.status_code, unknown.json()["reason"]) == (404, "UNKNOWN_USER")
    assert (invalid.status_code, invalid.json()["reason"]) == (422, "INVALID_FIELD")
    assert invalid.json()["detail"].startswith("limit: ")


def test_a_server_that_is_away(ask):
    """Without a server the web service says that there is nothing now, and not where it looked."""
    (answer,) = ask([clicks("i7")], target="127.0.0.1:1")
    assert answer.status_code == 503
    assert "127.0.0.1" not in answer.text
