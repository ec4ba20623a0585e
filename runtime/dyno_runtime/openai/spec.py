"""GET /openapi.json: what this server takes and answers, made from the same structs that decode and encode it.

In: the version. Out: an OpenAPI 3.1 document as JSON.
"""

from __future__ import annotations

from typing import Any

import msgspec

from dyno_runtime.openai.answers import ChatAnswer, CompletionAnswer
from dyno_runtime.openai.errors import ErrorAnswer
from dyno_runtime.openai.models import Model, ModelList
from dyno_runtime.openai.request import ChatRequest, CompletionRequest

Json = dict[str, Any]

_TYPES = (ChatRequest, CompletionRequest, ChatAnswer, CompletionAnswer, ErrorAnswer, Model, ModelList)
_EVENTS = (
    "Server-sent events where `stream` is true: one chunk an event, then, if asked for, the usage, then `[DONE]`. "
    "An error in the middle is an event with the same body as an error answer, and the last one."
)
_REFUSALS = {
    "400": "The request is wrong, or asks for what the model's engine cannot do; `param` names the field.",
    "404": "There is no such model.",
    "405": "The path takes another method.",
    "408": "The request was not complete in time.",
    "413": "The body is too large.",
    "429": "Too much is waiting already; try again after `Retry-After` seconds.",
    "431": "The head of the request is too large.",
    "500": "The engine failed on this request.",
    "503": "Nobody could take the request now; try again after `Retry-After` seconds.",
    "504": "There was no answer in time.",
}
_AGAIN = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}}


def openapi(version: str) -> bytes:
    """The document."""
    _, schemas = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    paths: dict[str, Json] = {
        "/v1/chat/completions": {
            "post": _generation("chat", "Answer a conversation", ChatRequest, ChatAnswer)
        },
        "/v1/completions": {
            "post": _generation("complete", "Continue a text", CompletionRequest, CompletionAnswer)
        },
        "/generate": {"post": _hello()},
        "/debug/route": {"post": _route()},
        "/v1/models": {"get": _get("models", "All models", _json(_ref(ModelList)))},
        "/v1/models/{model}": {"get": _one_model()},
        "/health": {"get": _get("health", "Could a worker take a request?", _json(_STATUS), "503")},
        "/ready": {"get": _get("ready", "Does this process take requests?", _json(_STATUS), "503")},
        "/live": {"get": _get("live", "Is this process alive?", _json(_STATUS))},
        "/metrics": {"get": _get("metrics", "Figures for Prometheus", {"text/plain": {}})},
        "/openapi.json": {"get": _get("openapi", "This document", _json({"type": "object"}))},
    }
    document = {
        "openapi": "3.1.0",
        "info": {"title": "dynoctl", "version": version, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": schemas},
    }
    return msgspec.json.encode(document)


_STATUS: Json = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}


def _ref(kind: type) -> Json:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _refusals(*statuses: str) -> Json:
    answers: Json = {}
    for status in statuses:
        answers[status] = {"description": _REFUSALS[status], "content": _json(_ref(ErrorAnswer))}
        if status in ("429", "503"):
            answers[status]["headers"] = _AGAIN
    return answers


def _generation(name: str, summary: str, request: type, answer: type) -> Json:
    content = {
        **_json(_ref(answer)),
        "text/event-stream": {"schema": {"type": "string", "description": _EVENTS}},
    }
    return {
        "operationId": name,
        "summary": summary,
        "requestBody": {"required": True, "content": _json(_ref(request))},
        "responses": {"200": {"description": "The answer.", "content": content}, **_refusals(*_REFUSALS)},
    }


def _get(name: str, summary: str, content: Json, *refusals: str) -> Json:
    answers: Json = {"200": {"description": summary, "content": content}}
    for status in refusals:
        answers[status] = {"description": "No.", "content": _json(_STATUS), "headers": _AGAIN}
    return {"operationId": name, "summary": summary, "responses": {**answers, **_refusals("405", "431")}}


def _one_model() -> Json:
    operation = _get("model", "One model", _json(_ref(Model)))
    parameter = {
        "name": "model",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
    }
    return {
        **operation,
        "parameters": [parameter],
        "responses": {**operation["responses"], **_refusals("404")},
    }


def _route() -> Json:
    asked = {"anyOf": [_ref(ChatRequest), _ref(CompletionRequest)]}
    return {
        "operationId": "route",
        "summary": "Where would this request go, and why? It is not run",
        "requestBody": {"required": True, "content": _json(asked)},
        "responses": {
            "200": {"description": "What the router says.", "content": _json({"type": "object"})},
            **_refusals(*_REFUSALS),
        },
    }


def _hello() -> Json:
    text = {"type": "string"}
    asked = {"prompt": text, "request_id": {"type": ["string", "null"]}}
    body = {"type": "object", "properties": asked, "required": ["prompt"], "additionalProperties": False}
    told = {"type": "object", "properties": {"worker_output": text, "request_id": text}}
    return {
        "operationId": "generate",
        "summary": "The call of the hello example: the first model continues a text",
        "requestBody": {"required": True, "content": _json(body)},
        "responses": {"200": {"description": "The answer.", "content": _json(told)}, **_refusals(*_REFUSALS)},
    }
