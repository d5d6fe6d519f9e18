"""A web service that asks the recommender, with one client for all of its requests.

    pip install PATH-OF-THIS-REPOSITORY fastapi uvicorn
    KINREC_TARGET=localhost:50051 uvicorn --app-dir examples/fastapi app:app

KINREC_TARGET may name several servers, with commas between them.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from kinrec.client import (
    AsyncClient,
    DeadlineExceededError,
    Event,
    InvalidRequestError,
    KinrecError,
    StateError,
    UnavailableError,
    UnknownUserError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kinrec.client import RecommendResult

# What is none of these is a fault of the service that stands behind this one.
STATUS = {
    InvalidRequestError: 422,
    UnknownUserError: 404,
    UnavailableError: 503,
    DeadlineExceededError: 504,
}


class Click(BaseModel):
    """Something that a visitor did."""

    item_id: str
    event_type: str = ""


class Item(BaseModel):
    """Something to show."""

    item_id: str
    title: str


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold the client as long as the service runs: its connections are shared by all requests."""
    async with AsyncClient(os.environ.get("KINREC_TARGET", "localhost:50051"), timeout=1) as client:
        app.state.client = client
        # Where each visitor stands. A service of several processes keeps this in a cache that they share.
        app.state.visitors = {}
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/people/{user_id}/recommendations")
async def recommend(request: Request, user_id: str, limit: int = 10) -> list[Item]:
    """Recommend to someone whom the log knows."""
    client: AsyncClient = request.app.state.client
    return _items(await client.recommend(user_id=user_id, limit=limit))


@app.post("/visitors/{visitor}/clicks")
async def click(request: Request, visitor: str, clicks: list[Click], limit: int = 10) -> list[Item]:
    """Take what a visitor did since the last time, and recommend what fits all of it."""
    client: AsyncClient = request.app.state.client
    visitors: dict[str, bytes] = request.app.state.visitors
    events = [Event(one.item_id, one.event_type) for one in clicks]
    try:
        answer = await client.recommend(events, state=visitors.get(visitor, b""), limit=limit)
    except StateError:  # of a model that is gone: what the visitor does now counts
        answer = await client.recommend(events, limit=limit)
    visitors[visitor] = answer.state
    return _items(answer)


@app.exception_handler(KinrecError)
async def explain(_request: Request, error: KinrecError) -> JSONResponse:
    """Say what the caller can mend, and of everything else no more than that it failed."""
    status = next((STATUS[kind] for kind in STATUS if isinstance(error, kind)), 500)
    detail = str(error) if status in {404, 422} else "there are no recommendations now"
    return JSONResponse({"detail": detail, "reason": error.reason}, status)


def _items(answer: RecommendResult) -> list[Item]:
    return [Item(item_id=item.item_id, title=item.title) for item in answer.recommendations]
