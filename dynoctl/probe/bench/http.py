"""Short questions to a server before and after a run: its models, its counters.

In: a URL. Out: what it says, or an error that names it.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request

from dynoctl.bench.counters import counters
from dynoctl.errors import DynoctlError, UsageError

TIMEOUT_S = 10.0
_MOST_BYTES = 32_000_000


def get(url: str) -> str:
    """The body. Raises OSError (of which urllib's own are) and ValueError."""
    request = urllib.request.Request(url)
    key = os.environ.get("OPENAI_API_KEY")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    # No proxy of the environment stands between a client and the server whose speed is measured.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=TIMEOUT_S) as answer:
        body: bytes = answer.read(_MOST_BYTES)
    return body.decode(errors="replace")


def models(url: str) -> list[str]:
    """What can be asked for. Raises DynoctlError where nobody answers as an OpenAI server does."""
    try:
        found = json.loads(get(f"{url}/v1/models"))
        return [str(one["id"]) for one in found["data"]]
    except urllib.error.HTTPError as error:
        why = f"it answers {url}/v1/models with status {error.code}"
    except OSError as error:
        reason = getattr(error, "reason", error)
        why = (getattr(reason, "strerror", None) or str(reason)).lower()
    except (ValueError, KeyError, TypeError):
        why = f"what it says at {url}/v1/models is no list of models"
    raise DynoctlError(f"no OpenAI server answers at {url}: {why}", next=f"curl -sv {url}/v1/models")


def choose(url: str, wanted: str | None) -> str:
    """The model to ask for: the one that is wanted, else the only one. Raises UsageError where it is not served."""
    served = models(url)
    if wanted is None and len(served) == 1:
        return served[0]
    if wanted in served and wanted is not None:
        return wanted
    names = ", ".join(served) or "none"
    if wanted is None:
        raise UsageError(f"{url} serves {len(served)} models: {names}", next="the same with --model NAME")
    raise UsageError(
        f"the model {wanted!r} is not served at {url}",
        detail=[f"served: {names}"],
        next="the same with --model NAME",
    )


def counted(url: str) -> dict[str, float]:
    """The server's counters; none where it has no /metrics."""
    try:
        return counters(get(f"{url}/metrics"))
    except (OSError, ValueError):
        return {}
