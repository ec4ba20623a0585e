"""Where a model's folder is: a path as it is, a name of the Hugging Face hub in the node's cache of it.

In: what the settings call the model's path. Out: a folder. What the cache lacks is fetched: the tokenizer's files,
and never weights, which the engine fetches for itself.
"""

from __future__ import annotations

import logging
from pathlib import Path

from dyno_runtime.text.folder import BadModelFolder

TEXT_FILES = ["*.json", "*.jinja", "tokenizer.model"]

log = logging.getLogger("dyno.text")


def model_folder(path: str) -> Path:
    """The folder; takes a while where something has to be fetched.

    Raises:
        BadModelFolder: it is a name of the hub, and cannot be had.
    """
    if path.startswith(("/", "~")):
        return Path(path).expanduser()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = Path(snapshot_download(path, local_files_only=True, allow_patterns=TEXT_FILES))
        if (found / "tokenizer.json").exists():
            return found
    except LocalEntryNotFoundError:
        pass
    log.info("%s: fetching its tokenizer from the hub", path)
    try:
        return Path(snapshot_download(path, allow_patterns=TEXT_FILES))
    except Exception as error:  # every kind of network and of hub raises its own
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadModelFolder(f"{path} cannot be had from the Hugging Face hub: {why}") from error
