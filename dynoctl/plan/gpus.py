"""Which GPUs of a node each worker takes.

In: what the file says, what an earlier `up` recorded, what is there and what is in use. Out: GPU numbers in the order
of the PCI bus. Workers keep the GPUs that they had; GPUs that the file names are taken as they are. What cannot be
given is kept in `short`, for `plan.blocks` to refuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

MANY = 1024  # where nobody knows how many there are, numbers run on


@dataclass
class GpuBook:
    """The GPUs of one node, while its units are being planned.

    `pool`: those that may be used; None: not known. `recorded`: what an earlier plan gave, by use. `busy`: in use by
    strangers. A use is a worker's name on its node, `decode-0`; for the share of a worker whose head is elsewhere
    `<head's node>/decode-0`.
    """

    pool: Sequence[int] | None = None
    recorded: Mapping[str, Sequence[int]] = field(default_factory=dict)
    busy: Set[int] = frozenset()
    given: dict[str, tuple[int, ...]] = field(default_factory=dict)
    short: dict[str, tuple[int, int]] = field(default_factory=dict)  # use → (needed, given)

    def named(self, use: str, gpus: Sequence[int]) -> tuple[int, ...]:
        """GPUs that the file names."""
        self.given[use] = tuple(gpus)
        return self.given[use]

    def chosen(self, use: str, count: int) -> tuple[int, ...]:
        """The recorded GPUs of this use where they still fit and no stranger has them, else the lowest free ones."""
        if use in self.given:
            return self.given[use]
        taken = {gpu for gpus in self.given.values() for gpu in gpus}
        pool = range(MANY) if self.pool is None else self.pool
        had = tuple(self.recorded.get(use, ()))
        if len(had) == count and set(had).isdisjoint({*taken, *self.busy}) and set(had) <= set(pool):
            return self.named(use, had)
        kept = {gpu for other, gpus in self.recorded.items() if other != use for gpu in gpus}
        free = [gpu for gpu in pool if gpu not in taken]
        # First those that nobody has or had, then those of uses that may be gone, then those that a stranger has.
        free.sort(key=lambda gpu: (gpu in self.busy, gpu in kept, gpu))
        if len(free) < count:
            self.short[use] = (count, len(free))
        return self.named(use, sorted(free[:count]))


def spelled(gpus: Sequence[int]) -> str:
    """`GPU 3`, `GPUs 0-7`, `GPUs 0,2,4-6`."""
    runs: list[list[int]] = []
    for gpu in gpus:
        if runs and gpu == runs[-1][-1] + 1:
            runs[-1].append(gpu)
        else:
            runs.append([gpu])
    text = ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"GPU {text}" if len(gpus) == 1 else f"GPUs {text}"
