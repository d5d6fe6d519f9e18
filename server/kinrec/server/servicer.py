"""The recommender service: each call is translated, handed to the engine, and translated back."""

# ruff: noqa: N802, ARG002 - names and arguments of the methods are gRPC's

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from kinrec.engine import (
    MAX_LIMIT,
    MAX_REQUESTS,
    EngineError,
    InvalidFieldError,
    Query,
)
from kinrec.server import from_wire, to_wire
from kinrec.server.errors import CallEndedError, Failure, failure_of
from kinrec.server.observability.calls import is_late, note_version
from kinrec.server.pages import (
    InvalidPageTokenError,
    Page,
    StalePageTokenError,
    next_token,
    read_page,
)
from kinrec.server.pools import Places
from kinrec.server.states import MAX_STATE_BYTES
from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1 import recommender_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import grpc

    from kinrec.engine import Encoding, Recommendations
    from kinrec.server.engines import Choice, Engines, RecommenderEngine
    from kinrec.server.states import StateKeys

MAX_BATCH_EVENTS = 20_000
MAX_BATCH_RESULTS = 20_000
_AT_ONCE = 64  # requests of a batch; between them it is looked whether somebody still waits

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer", "Encoding", "Recommendations")
_Response = TypeVar(
    "_Response",
    pb.EncodeSequenceResponse,
    pb.SimilarUsersResponse,
    pb.RecommendResponse,
    pb.RankResponse,
)

_SERVICE = pb.DESCRIPTOR.services_by_name["RecommenderService"]
SERVICE_NAME = _SERVICE.full_name
METHODS = tuple(method.name for method in _SERVICE.methods)


class _Asked(NamedTuple):
    """What is asked of which engine.

    Attributes:
        choice: The engine.
        query: What it is asked.
        request: The request for recommendations, for the token of the next page; None of others.
        page: Where its page begins.
    """

    choice: Choice
    query: Query
    request: pb.RecommendRequest | None = None
    page: Page = Page()


def _encode_all(
    engine: RecommenderEngine, queries: list[Query]
) -> Sequence[Encoding | EngineError]:
    return engine.encode_many(queries)


def _recommend_all(
    engine: RecommenderEngine, queries: list[Query]
) -> Sequence[Recommendations | EngineError]:
    return engine.recommend_many(queries)


def _itself(answer: Recommendations) -> Recommendations:
    return answer


def _check_wanted(context: grpc.ServicerContext) -> None:
    """Go no further if the caller has gone or its deadline has passed.

    Raises:
        CallEndedError: Nobody waits for the answer.
    """
    # To gRPC a call is active after its deadline until it has read that it has passed.
    if is_late() or not context.is_active():
        raise CallEndedError


def _check_batch(
    requests: Sequence[pb.EncodeSequenceRequest] | Sequence[pb.RecommendRequest],
) -> None:
    """Refuse more than a batch may hold before anything is converted."""
    if len(requests) > MAX_REQUESTS:
        rule = f"at most {MAX_REQUESTS} are allowed, got {len(requests)}"
        raise InvalidFieldError("requests", rule)
    events = sum(len(request.events) for request in requests)
    if events > MAX_BATCH_EVENTS:
        rule = f"the events may be {MAX_BATCH_EVENTS} in all, are {events}"
        raise InvalidFieldError("requests", rule)


class RecommenderServicer(recommender_pb2_grpc.RecommenderServiceServicer):
    """Answers the calls of `kinrec.v1.RecommenderService`.

    What the engine raises passes through: the interceptor turns it into a status.

    Args:
        engines: Answer, until ``engines`` is set to others.
        keys: Sign states and page tokens.
        min_voters: How many similar users must have voted for an item for a reason to tell of them;
            0 to tell of none.
        max_streams: How many streams are kept open at once.
    """

    def __init__(
        self, engines: Engines, keys: StateKeys, *, min_voters: int, max_streams: int
    ) -> None:
        # Replaced in one step when another version is served. A call looks once, and stays with it.
        self.engines = engines
        self._keys = keys
        self._policy = to_wire.ReasonPolicy(min_voters, keys.pseudonym)
        self._streams = Places(max_streams, "streams")

    def EncodeSequence(
        self,
        request: pb.EncodeSequenceRequest,
        context: grpc.ServicerContext,
    ) -> pb.EncodeSequenceResponse:
        """Encode a person's behaviour into a user-interest vector."""
        _check_wanted(context)
        asked = self._asked_to_encode(self.engines, request)
        response = asked.choice.engine.encode_for(
            asked.query, lambda encoding: self._encoded(asked, encoding)
        )
        note_version(response.model_version)
        return response

    def SimilarUsers(
        self,
        request: pb.SimilarUsersRequest,
        context: grpc.ServicerContext,
    ) -> pb.SimilarUsersResponse:
        """Find the known users who behave most like a person."""
        _check_wanted(context)
        state = self._keys.open(request.state)
        choice = self.engines.of(state, request.user_id)
        events = from_wire.events_from_proto(request)
        similar = choice.engine.similar_users(
            user_id=request.user_id,
            events=events,
            state=state,
            limit=from_wire.limit_from_proto(request.limit),
            shared_items=request.shared_items,
            search_effort=request.search_effort or 1,
            exact=request.exact,
        )
        return self._finish(to_wire.similar_users_to_proto(similar), choice, similar.state)

    def Recommend(
        self,
        request: pb.RecommendRequest,
        context: grpc.ServicerContext,
    ) -> pb.RecommendResponse:
        """Recommend the items that a person is most likely to want next."""
        _check_wanted(context)
        asked = self._asked(self.engines, request)

        def answered(answer: Recommendations) -> pb.RecommendResponse:
            _check_wanted(context)
            return self._answered(asked, answer)

        response = asked.choice.engine.recommend_for(asked.query, answered)
        note_version(response.model_version)
        return response

    def RecommendStream(
        self,
        request_iterator: Iterator[pb.RecommendStreamRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[pb.RecommendStreamResponse]:
        """Recommend anew after every message of events."""
        with self._streams.take():
            yield from self._stream(request_iterator)

    def _stream(
        self, messages: Iterator[pb.RecommendStreamRequest]
    ) -> Iterator[pb.RecommendStreamResponse]:
        first = next(messages, None)
        if first is None:
            return
        if first.WhichOneof("part") != "start":
            raise InvalidFieldError("start", "must be set in the first message of a stream")
        request = first.start
        if request.page_token:
            raise InvalidFieldError("start.page_token", "must be empty on a stream")
        try:
            asked = self._asked(self.engines, request)
            engine, query = asked.choice.engine, asked.query
            answer = engine.recommend_for(query, _itself)
        except InvalidFieldError as error:
            raise InvalidFieldError(f"start.{error.field}", error.rule) from error
        yield self._on_stream(asked, answer)
        for message in messages:
            if message.WhichOneof("part") != "events":
                raise InvalidFieldError("events", "must be set in every message but the first")
            try:
                events = from_wire.events_from_proto(message.events)
                query = dataclasses.replace(
                    # Without a state nothing usable was known: the person is asked about anew.
                    query,
                    events=events,
                    state=answer.state,
                    user_id=request.user_id,
                )
                asks_anew = events or answer.state
                answer = engine.recommend_for(query, _itself) if asks_anew else answer
            except InvalidFieldError as error:
                found = failure_of(InvalidFieldError(f"events.{error.field}", error.rule))
                yield pb.RecommendStreamResponse(failure=to_wire.failure_to_proto(found))
            except EngineError as error:
                failure = to_wire.failure_to_proto(failure_of(error))
                yield pb.RecommendStreamResponse(failure=failure)
            else:
                yield self._on_stream(asked, answer)
        end = pb.StreamEnd(state=self._keys.seal(answer.state))
        yield pb.RecommendStreamResponse(end=end)

    def _on_stream(self, asked: _Asked, answer: Recommendations) -> pb.RecommendStreamResponse:
        response = self._answered(asked, answer)
        response.ClearField("next_page_token")  # it would lead on from the first message alone
        return pb.RecommendStreamResponse(response=response)

    def BatchEncode(
        self, request: pb.BatchEncodeRequest, context: grpc.ServicerContext
    ) -> pb.BatchEncodeResponse:
        """Encode many people."""
        _check_batch(request.requests)
        found = self._batch(request.requests, context, self._asked_to_encode, _encode_all)
        return pb.BatchEncodeResponse(
            results=[
                pb.EncodeResult(failure=to_wire.failure_to_proto(one))
                if isinstance(one, Failure)
                else pb.EncodeResult(response=self._encoded(*one))
                for one in found
            ]
        )

    def BatchRecommend(
        self, request: pb.BatchRecommendRequest, context: grpc.ServicerContext
    ) -> pb.BatchRecommendResponse:
        """Recommend for many people."""
        _check_batch(request.requests)
        wanted = sum(max(0, from_wire.limit_from_proto(one.limit)) for one in request.requests)
        if wanted > MAX_BATCH_RESULTS:
            rule = f"the limits may be {MAX_BATCH_RESULTS} in all, are {wanted}"
            raise InvalidFieldError("requests", rule)
        found = self._batch(request.requests, context, self._asked, _recommend_all)
        return pb.BatchRecommendResponse(
            results=[
                pb.RecommendResult(failure=to_wire.failure_to_proto(one))
                if isinstance(one, Failure)
                else pb.RecommendResult(response=self._answered(*one))
                for one in found
            ]
        )

    def _batch(
        self,
        requests: Iterable[_Request],
        context: grpc.ServicerContext,
        prepare: Callable[[Engines, _Request], _Asked],
        ask: Callable[[RecommenderEngine, list[Query]], Sequence[_Answer | EngineError]],
    ) -> list[tuple[_Asked, _Answer] | Failure]:
        """Ask each engine about the requests that are its, and put the answers in order."""
        _check_wanted(context)
        engines = self.engines
        found: dict[int, tuple[_Asked, _Answer] | Failure] = {}
        waiting: dict[int, list[tuple[int, _Asked]]] = {}  # by engine
        for place, request in enumerate(requests):
            try:
                asked = prepare(engines, request)
            except (EngineError, InvalidPageTokenError, StalePageTokenError) as error:
                found[place] = failure_of(error)
            else:
                waiting.setdefault(id(asked.choice.engine), []).append((place, asked))
        for its in waiting.values():
            for start in range(0, len(its), _AT_ONCE):
                _check_wanted(context)
                part = its[start : start + _AT_ONCE]
                said = ask(its[0][1].choice.engine, [asked.query for _, asked in part])
                for (place, asked), answer in zip(part, said, strict=True):
                    if isinstance(answer, EngineError):
                        found[place] = failure_of(answer)
                    else:
                        found[place] = (asked, answer)
        return [found[place] for place in sorted(found)]

    def Rank(self, request: pb.RankRequest, context: grpc.ServicerContext) -> pb.RankResponse:
        """Put given items in order."""
        _check_wanted(context)
        state = self._keys.open(request.state)
        choice = self.engines.of(state, request.user_id)
        events = from_wire.events_from_proto(request)
        ranking = choice.engine.rank(
            request.item_ids,
            user_id=request.user_id,
            events=events,
            state=state,
            reasons=request.reasons,
        )
        response = to_wire.ranking_to_proto(ranking, self._policy)
        return self._finish(response, choice, ranking.recommendations.state)

    def SimilarItems(
        self, request: pb.SimilarItemsRequest, context: grpc.ServicerContext
    ) -> pb.SimilarItemsResponse:
        """Find items like another."""
        engine = self.engines.current
        similar = engine.similar_items(
            request.item_id,
            limit=from_wire.limit_from_proto(request.limit),
            allow_item_ids=request.allow_item_ids,
            conditions=from_wire.conditions_from_proto(request.conditions),
        )
        response = to_wire.similar_items_to_proto(similar)
        response.model_version = engine.version
        note_version(engine.version)
        return response

    def GetModel(
        self,
        request: pb.GetModelRequest,
        context: grpc.ServicerContext,
    ) -> pb.GetModelResponse:
        """Describe the model that answers."""
        manifest = self.engines.current.manifest
        note_version(manifest.version)
        return to_wire.model_to_proto(manifest, max_state_bytes=MAX_STATE_BYTES)

    def _asked(self, engines: Engines, request: pb.RecommendRequest) -> _Asked:
        """Find the engine for a request, and what to ask it."""
        state = self._keys.open(request.state)
        choice = engines.of(state, request.user_id)
        page = read_page(request, self._keys, choice.engine.ranking)
        query = from_wire.query_from_proto(request, state, page)
        return _Asked(choice, query, request, page)

    def _asked_to_encode(self, engines: Engines, request: pb.EncodeSequenceRequest) -> _Asked:
        state = self._keys.open(request.state)
        events = from_wire.events_from_proto(request)
        query = Query(request.user_id, events, state)
        choice = engines.of(state, request.user_id)
        return _Asked(choice, query)

    def _encoded(self, asked: _Asked, encoding: Encoding) -> pb.EncodeSequenceResponse:
        return self._finish(to_wire.encoding_to_proto(encoding), asked.choice, encoding.state)

    def _answered(self, asked: _Asked, answer: Recommendations) -> pb.RecommendResponse:
        response = to_wire.recommendations_to_proto(answer, self._policy)
        choice, query, request, page = asked
        if request is not None and answer.more and page.skip + query.limit < MAX_LIMIT:
            response.next_page_token = next_token(
                request, self._keys, choice.engine.ranking, page, query.limit
            )
        return self._finish(response, choice, answer.state)

    def _finish(self, response: _Response, choice: Choice, state: bytes) -> _Response:
        """Say which model answered, and where the person stands.

        It may run outside of the call, with those of others that asked the same engine.
        """
        response.model_version = choice.engine.version
        note_version(choice.engine.version)
        response.variant = choice.variant
        response.state = self._keys.seal(state)
        response.send_history = not choice.is_expected
        return response
