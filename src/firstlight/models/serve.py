"""Models served over HTTP: an application that another server can mount, and a server of its own.

It needs fastapi and uvicorn.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Protocol, runtime_checkable

import msgspec
import numpy as np
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response

from ._prediction import Prediction
from ._serve_batch import Batching, Full, Revoked, Untold, Worker
from ._serve_guard import bearer, body_of, json_of, run_server
from ._token import is_loopback, read_token

__all__ = [
    "Batching", "Embeds", "Predicts", "Served", "app", "inputs_of", "is_loopback", "read_token", "serve",
]  # fmt: skip

_log = logging.getLogger(__name__)
_JSON = "application/json"
_BATCHING = Batching()


@runtime_checkable
class Predicts(Protocol):
    """A model of points: it raises ValueError where it cannot answer for one."""

    def predict(self, points: Sequence[Mapping[str, Any]]) -> Sequence[Prediction]:
        """A prediction a point, in their order."""
        ...


@runtime_checkable
class Embeds(Protocol):
    """A model of sequences: a row a sequence."""

    def embed(self, sequences: Sequence[str]) -> Any:
        """Vectors (n, d)."""
        ...


@dataclass(frozen=True)
class Served:
    """A model, and what is said of it. `inputs` are the columns of a point and their units: others are refused, and all
    must be there (a column that may be empty is null); with {} the model itself judges. `limits` say what it cannot do.
    """

    name: str
    version: str
    model: Predicts | Embeds
    licence: str = ""
    card: str = ""
    limits: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)


def inputs_of(model: object) -> dict[str, str]:
    """The columns that a model of tables asks for, and their units; {} where it does not say."""
    names = [i.name for i in getattr(getattr(model, "config", None), "inputs", ())]
    units = getattr(model, "units", {})
    return {name: units.get(name, "") for name in names}


def app(
    models: Sequence[Served], *, token: str = "", revoked: Callable[[str], str] = lambda version: "",
    batching: Batching = _BATCHING, most_bytes: int = 4 * 1024 * 1024, patience: float = 60.0,
) -> FastAPI:  # fmt: skip
    """The application. `revoked(version)` says why a version must not be used any more, "" while it may; it is asked
    before every call of a model, in that model's thread. Without a token everybody may ask.

    `patience` is after how many seconds a request is given up. Raises ValueError where two models have one name.
    """
    here = _Here({m.name: m for m in models}, {}, revoked, batching, most_bytes, patience)
    if len(here.models) != len(models):
        raise ValueError(f"models: two have one name among {', '.join(m.name for m in models)}")
    here.workers.update({m.name: Worker(m.version, revoked, batching) for m in models})

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        for worker in here.workers.values():
            await asyncio.to_thread(worker.close)

    routes = APIRouter(dependencies=[Depends(bearer(token))])
    _add_pages(routes, here)
    _add_questions(routes, here)
    made = FastAPI(title="Firstlight models", lifespan=lifespan, docs_url=None, redoc_url=None)
    made.include_router(routes)
    return made


def serve(
    models: Sequence[Served], host: str = "127.0.0.1", port: int = 0, *, token: str = "",
    started: Callable[[str], None] = print, **options: Any,
) -> None:  # fmt: skip
    """Serve until SIGINT or SIGTERM; `started` is told the address. `options` are those of `app`.

    Raises ValueError where there is no token and the host is not this machine's own, OSError where the port is taken.
    """
    run_server(app(models, token=token, **options), host, port, token, started)


# ------------------------------------------------------------------ the routes


@dataclass(frozen=True)
class _Here:
    """What an application serves, and within which limits."""

    models: dict[str, Served]
    workers: dict[str, Worker]
    revoked: Callable[[str], str]
    batching: Batching
    most_bytes: int
    patience: float

    def found(self, name: str) -> Served:
        if name not in self.models:
            near = get_close_matches(name, self.models, 1)
            raise HTTPException(404, f"there is no model {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return self.models[name]

    async def document(self, request: Request) -> Any:
        return json_of(await body_of(request, self.most_bytes, _JSON))

    async def answered(self, name: str, call: Callable[..., Any], rows: Sequence[Any]) -> list[Any]:
        if len(rows) > self.batching.longest:
            raise HTTPException(413, f"{len(rows)} rows in one request, and at most {self.batching.longest} may be")
        return await _answered(self.workers[name], call, rows, self.patience)


def _add_pages(routes: APIRouter, here: _Here) -> None:
    @routes.get("/models", summary="The models that are served", responses=_example(200, {"models": [_EXAMPLE_TOLD]}))
    def listed() -> Response:
        return _response({"models": [_told(m, here.revoked, short=True) for m in here.models.values()]})

    @routes.get(
        "/models/{name}", summary="A model's card, licence, version and limits", responses=_example(200, _EXAMPLE_TOLD)
    )
    def shown(name: str) -> Response:
        return _response(_told(here.found(name), here.revoked))


def _add_questions(routes: APIRouter, here: _Here) -> None:
    @routes.post(
        "/models/{name}/predict", summary="What is expected at points",
        openapi_extra=_asked(_EXAMPLE_POINTS), responses=_example(200, _EXAMPLE_PREDICTED) | _ERRORS,
    )  # fmt: skip
    async def predict(name: str, request: Request) -> Response:
        served = here.found(name)
        if not isinstance(served.model, Predicts):
            raise HTTPException(404, f"{name} does not predict points")
        points = _points(await here.document(request), served.inputs)
        made = await here.answered(name, served.model.predict, points)
        return _response({"model": name, "version": served.version, "predictions": [_predicted(p) for p in made]})

    @routes.post(
        "/models/{name}/embed", summary="Vectors that stand for sequences",
        openapi_extra=_asked({"sequences": ["MKV"]}), responses=_EMBEDDED | _ERRORS,
    )  # fmt: skip
    async def embed(name: str, request: Request) -> Response:
        served = here.found(name)
        if not isinstance(served.model, Embeds):
            raise HTTPException(404, f"{name} does not embed sequences")
        sequences = _listed(await here.document(request), "sequences")
        if (odd := next((k for k, s in enumerate(sequences) if not isinstance(s, str) or not s), None)) is not None:
            raise HTTPException(422, f"sequences, {odd}: it must be text, and not empty")
        made = np.asarray(await here.answered(name, served.model.embed, sequences), float)
        if not np.isfinite(made).all():
            raise HTTPException(500, "the model made what is no number")
        return _response({"model": name, "version": served.version, "embeddings": made.tolist()})


# ------------------------------------------------------------------ a request


async def _answered(worker: Worker, call: Callable[..., Any], rows: Sequence[Any], patience: float) -> list[Any]:
    try:
        return await asyncio.wait_for(asyncio.wrap_future(worker.submit(call, rows)), patience)
    except Full as error:
        raise HTTPException(503, str(error), {"Retry-After": "1"}) from None
    except Untold as error:
        raise HTTPException(503, str(error), {"Retry-After": "10"}) from None
    except TimeoutError:
        raise HTTPException(503, f"there was no answer within {patience:g} s", {"Retry-After": "10"}) from None
    except Revoked as error:
        raise HTTPException(410, f"the model was revoked: {error}") from None
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    except Exception:  # noqa: BLE001  Whatever a model raises. What went wrong inside is for who runs the server.
        _log.exception("a model failed")
        raise HTTPException(500, "the model failed") from None


def _listed(document: Any, name: str) -> list[Any]:
    if not isinstance(document, dict) or set(document) != {name}:
        raise HTTPException(422, f'the body must be {{"{name}": [...]}}, and nothing else')
    if not isinstance(document[name], list) or not document[name]:
        raise HTTPException(422, f"{name} must be a list, and not empty")
    return list(document[name])


def _points(document: Any, inputs: Mapping[str, str]) -> list[dict[str, Any]]:
    points = _listed(document, "points")
    for k, point in enumerate(points):
        if not isinstance(point, dict):
            raise HTTPException(422, f"points, {k}: it must be values by column")
        for name in point:
            if inputs and name not in inputs:
                near = get_close_matches(name, inputs, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(inputs)}"
                raise HTTPException(422, f"points, {k}: there is no column {name!r}; {hint}")
        if missing := [name for name in inputs if name not in point]:
            raise HTTPException(422, f"points, {k}: {', '.join(missing)} must be there")
        for name, value in point.items():
            if value is not None and not isinstance(value, bool | int | float | str):
                raise HTTPException(422, f"points, {k}: {name} must be a number, text, true or false")
            if isinstance(value, int | float) and not _finite(value):
                raise HTTPException(422, f"points, {k}: {name} must be a finite number")
    return points


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # An integer of hundreds of digits.
        return False


# ------------------------------------------------------------------ an answer


def _predicted(made: Prediction) -> dict[str, Any]:
    values = {n: {"value": o.value, "unit": o.unit, "sigma": o.sigma} for n, o in made.values.items()}
    return {"values": values, "familiar": made.familiar, "why": made.why}


def _told(model: Served, revoked: Callable[[str], str], short: bool = False) -> dict[str, Any]:
    try:
        why: str | None = revoked(model.version)
    except Exception:  # noqa: BLE001  A registry may fail in ways of its own; the page says that it did.
        _log.exception("whether %s was revoked cannot be told", model.version)
        why = None
    offers = [n for n, kind in (("predict", Predicts), ("embed", Embeds)) if isinstance(model.model, kind)]
    told = {
        "name": model.name, "version": model.version, "licence": model.licence, "offers": offers,
        "usable": why == "", "revoked": "it cannot be told now" if why is None else why,
    }  # fmt: skip
    return told if short else told | {"inputs": dict(model.inputs), "limits": list(model.limits), "card": model.card}


def _response(told: object) -> Response:
    return Response(msgspec.json.encode(told), media_type=_JSON)


# ------------------------------------------------------------------ the document of the API

_EXAMPLE_TOLD = {
    "name": "yield", "version": "yield:3", "licence": "CC-BY-4.0", "offers": ["predict"], "usable": True, "revoked": "",
    "inputs": {"temperature": "degC", "solvent": ""}, "limits": ["it answers for 20 to 120 degC"], "card": "# yield",
}  # fmt: skip
_EXAMPLE_POINTS = {"points": [{"temperature": 80.0, "solvent": "water"}]}
_EXAMPLE_PREDICTED = {
    "model": "yield", "version": "yield:3",
    "predictions": [
        {"values": {"yield": {"value": 0.71, "unit": "", "sigma": 0.04}}, "familiar": True, "why": ""},
    ],
}  # fmt: skip
_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"description": "No token, or another"},
    404: {"description": "No such model, or it does not do that"},
    410: {"description": "The model was revoked; the detail says why"},
    413: {"description": "Too many bytes or rows"},
    415: {"description": "The body is not application/json"},
    422: {
        "description": "What was asked cannot be answered; the detail says where and why",
        "content": {
            _JSON: {"example": {"detail": "points, 0: there is no column 'temprature'; did you mean 'temperature'?"}}
        },
    },
    503: {"description": "Too much is waiting, or it cannot be told whether the model was revoked: ask again later"},
}


def _example(code: int, example: Any) -> dict[int | str, dict[str, Any]]:
    return {code: {"description": "Answered", "content": {_JSON: {"example": example}}}}


_EMBEDDED = _example(200, {"model": "m", "version": "m:1", "embeddings": [[0.1, -0.2]]})


def _asked(example: Any) -> dict[str, Any]:
    name = next(iter(example))
    schema = {"type": "object", "required": [name], "properties": {name: {"type": "array", "minItems": 1}}}
    return {"requestBody": {"required": True, "content": {_JSON: {"schema": schema, "example": example}}}}
