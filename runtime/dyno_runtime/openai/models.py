"""GET /v1/models and /v1/models/{model}.

In: the models that are served. Out: JSON, in OpenAI's shape; `max_model_len` is an addition that open servers share.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from dyno_runtime.openai.errors import unknown_model


class Model(msgspec.Struct, frozen=True):
    """One model. `created` is when it was added, in seconds since 1970; `max_model_len` counts tokens."""

    id: str
    created: int
    owned_by: str = "dynoctl"
    max_model_len: int | None = None
    object: Literal["model"] = "model"


class ModelList(msgspec.Struct, frozen=True):
    """All of them."""

    data: list[Model]
    object: Literal["list"] = "list"


def model_list(models: Iterable[Model]) -> bytes:
    """The JSON of all models, in the order of their names."""
    return msgspec.json.encode(ModelList(sorted(models, key=lambda one: one.id)))


def one_model(models: Iterable[Model], name: str) -> bytes:
    """The JSON of the model with exactly this name. Raises ApiError (404)."""
    for model in models:
        if model.id == name:
            return msgspec.json.encode(model)
    raise unknown_model(name)
