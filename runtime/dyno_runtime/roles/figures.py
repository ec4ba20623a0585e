"""What a frontend counts, as Prometheus reads it at /metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dyno_runtime.roles.visit import Visit


class Figures:
    """Counts since the start of this process."""

    def __init__(self) -> None:
        self._ended: dict[int, int] = {}
        self._prompt_tokens = 0
        self._cached_tokens = 0
        self._said_tokens = 0

    def ended(self, status: int) -> None:
        """A request was answered with this status; 499: its client left."""
        self._ended[status] = self._ended.get(status, 0) + 1

    def told(self, visit: Visit) -> None:
        """What it cost."""
        self._prompt_tokens += visit.prompt_tokens
        for choice in visit.choices:
            self._cached_tokens += choice.cached_tokens
            self._said_tokens += choice.answer.tokens

    def text(self, in_flight: int) -> bytes:
        """In Prometheus' form."""
        lines = ["# TYPE dyno_requests_total counter"]
        lines += [f'dyno_requests_total{{status="{key}"}} {n}' for key, n in sorted(self._ended.items())]
        for name, value in (
            ("prompt_tokens", self._prompt_tokens),
            ("cached_tokens", self._cached_tokens),
            ("answer_tokens", self._said_tokens),
        ):
            lines += [f"# TYPE dyno_{name}_total counter", f"dyno_{name}_total {value}"]
        lines += ["# TYPE dyno_requests_in_flight gauge", f"dyno_requests_in_flight {in_flight}", ""]
        return "\n".join(lines).encode()
