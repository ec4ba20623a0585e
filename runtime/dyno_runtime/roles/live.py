"""What may be changed while the cluster runs: where prefill runs, and how requests are routed, for each model.

In: the keys `/{cluster}/config/{disagg|routing}/{model}`, JSON objects. Out: the values that hold now. A key
lays what it has over what the operator wrote, and deleting it brings that back. A value that is wrong is refused
loudly, in the log and in the health file, and the last good one stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from dyno_runtime.settings import LEASE_MARGIN, Disagg, DisaggMode, PolicyName, ProcessSettings, Routing
from dyno_runtime.wire.names import config_key, split_config_key

log = logging.getLogger("dyno.config")

T = TypeVar("T", Disagg, Routing)


class DisaggChange(msgspec.Struct, forbid_unknown_fields=True):
    """The value of a `disagg` key; what is left out stays as the operator wrote it."""

    mode: DisaggMode | UnsetType = UNSET
    max_local_prefill_length: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    max_prefill_queue_size: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    prefill_timeout_s: Annotated[float, Meta(gt=0)] | UnsetType = UNSET


class RoutingChange(msgspec.Struct, forbid_unknown_fields=True):
    """The value of a `routing` key."""

    policy: PolicyName | UnsetType = UNSET
    max_waiting: Annotated[int, Meta(ge=1)] | UnsetType | None = UNSET
    max_usage: Annotated[float, Meta(gt=0, le=1)] | UnsetType | None = UNSET


class Live:
    """See the module; a `KeyListener`. `changed` is called after each change that was taken or refused."""

    def __init__(self, settings: ProcessSettings, changed: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._changed = changed
        self._disagg: dict[str, Disagg] = {}
        self._routing: dict[str, Routing] = {}
        self._refused: dict[str, str] = {}

    def disagg(self, model: str) -> Disagg:
        """Where the prefill of this model runs now."""
        return self._disagg.get(model, self._settings.disagg)

    def routing(self, model: str) -> Routing:
        """How requests for this model are routed now."""
        return self._routing.get(model, self._settings.routing)

    @property
    def problem(self) -> str | None:
        """What was refused, as a sentence; None where all is well."""
        return next(iter(self._refused.values()), None)

    def put(self, key: str, value: bytes) -> None:
        kind, model = split_config_key(key)
        try:
            if kind == "disagg":
                self._disagg[model] = self._read_disagg(model, value)
            elif kind == "routing":
                change = msgspec.json.decode(value, type=RoutingChange)
                self._routing[model] = _laid_over(self._settings.routing, change)
            else:
                known = config_key(self._settings.cluster, "disagg", "MODEL")
                raise ValueError(f"there is no such key; the keys are {known} and, likewise, routing")
        except (ValueError, UnicodeDecodeError) as error:
            self._refused[key] = f"{key} is refused, and what was there before stays: {error}"
            log.error("%s", self._refused[key])
        else:
            self._refused.pop(key, None)
            log.info("%s is %s", key, value.decode(errors="replace"))
        self._changed()

    def gone(self, key: str) -> None:
        kind, model = split_config_key(key)
        values: dict[str, Any] = self._disagg if kind == "disagg" else self._routing
        if kind in ("disagg", "routing") and values.pop(model, None) is not None:
            log.info("%s is gone: what the topology says holds again", key)
        self._refused.pop(key, None)
        self._changed()

    def _read_disagg(self, model: str, value: bytes) -> Disagg:
        change = msgspec.json.decode(value, type=DisaggChange)
        if self._settings.disagg.mode == "off" and change.mode not in (UNSET, "off"):
            raise ValueError(
                f"mode cannot become {change.mode!r}: the topology says off, so nobody pulls from the queue"
            )
        transfer = self._settings.transfer
        ours = model == self._settings.model.name  # the leases of other models are others' affair
        if ours and transfer is not None and change.prefill_timeout_s is not UNSET:
            longest_s = round(transfer.lease_s * (1 - LEASE_MARGIN), 3)
            if change.prefill_timeout_s > longest_s:
                raise ValueError(
                    f"prefill_timeout_s cannot become {change.prefill_timeout_s:g}: prefilled KV is kept for "
                    f"{transfer.lease_s:g} s, so the longest is {longest_s:g}; set disagg.prefill_timeout_s in the "
                    "topology for a longer one, and dynoctl up"
                )
        return _laid_over(self._settings.disagg, change)


def _laid_over(operators: T, change: msgspec.Struct) -> T:
    given = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}
    return msgspec.structs.replace(operators, **given)
