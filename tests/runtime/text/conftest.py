"""Model folders, made once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dyno_runtime.text.load import TextModel, load
from tests.models import Kind, make_model


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], Path]:
    """The folder of a model with this kind of tokenizer. Not to be changed."""
    made: dict[Kind, Path] = {}

    def folder(kind: Kind) -> Path:
        if kind not in made:
            made[kind] = make_model(tmp_path_factory.mktemp(kind) / "model", kind)
        return made[kind]

    return folder


@pytest.fixture(scope="session")
def model_of(folder_of: Callable[[Kind], Path]) -> Callable[[Kind], TextModel]:
    """The loaded model of that folder."""
    loaded: dict[Kind, TextModel] = {}

    def model(kind: Kind) -> TextModel:
        if kind not in loaded:
            loaded[kind] = load(folder_of(kind))
        return loaded[kind]

    return model
