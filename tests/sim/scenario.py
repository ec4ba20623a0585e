"""One seed, one small cluster with everything that may go wrong: `python -m tests.sim.scenario SEED` plays it again.

In: a seed. Out: the cluster at rest, or an AssertionError that says what did not hold.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from random import Random

from benchmarks.trace import Row, Shape, Spread, generate
from dyno_runtime.core.chooser import Limits
from dyno_runtime.core.policies import PolicyName
from tests.sim.cluster import Cluster, Network, Passage
from tests.sim.worker import Machine

POLICIES: tuple[PolicyName, ...] = ("kv", "kv_classic", "prefix", "least_loaded", "round_robin", "random")
BUSY_S = 6.0  # how long faults happen
DEADLINE_S = 600.0
REST_S = 70.0  # longer than the longest wait between two asks, and than any expectation


def play(seed: int) -> Cluster:
    """Run the scenario of this seed to its end, and check what must hold then."""
    rng = Random(f"scenario {seed}")
    cluster = _cluster(seed, rng)
    shape = Shape(
        per_s=rng.choice([3.0, 12.0]),
        prompts=rng.choice([1, 3]),
        prompt_blocks=Spread(2, 6),
        first=Spread(600, 3000),
        tail=Spread(200, 900),
        output=Spread(20, 90),
        delay_s=Spread(0.5, 2.0),
        casual=0.4,
        keen=0.8,
        keen_part=0.3,
        max_input=6000,
    )
    rows = [_cut(row) for row in generate(shape, rng.randrange(5, 45), seed)]
    cluster.arrive(rows, lambda number: number * 0x9E3779B97F4A7C15 % (1 << 64))
    _plan_faults(cluster, rng)
    cluster.run(DEADLINE_S)
    _rest(cluster)
    check(cluster)
    return cluster


def check(cluster: Cluster) -> None:
    """Nothing is lost, nothing leaks, and every router knows exactly what every worker holds."""
    for passage in cluster.passages:
        _check_passage(passage)
    for worker in cluster.workers.values():
        worker.cache.check()
    for number, router in enumerate(cluster.routers):
        assert len(router.loads) == 0, f"router {number} still counts {len(router.loads)} requests"
        assert router.index.expected == 0, f"router {number} still expects {router.index.expected} blocks"
        alive = {name for name, worker in cluster.workers.items() if worker.alive}
        assert set(router.loads.workers) == set(router.index.held) == alive
        for name in alive:
            load, held = router.loads.workers[name], cluster.workers[name].cache.ledger.held
            counts = (load.running, load.waiting, load.queued_tokens, load.active_blocks)
            assert counts == (0, 0, 0, 0), f"router {number} believes in work at {name}: {counts}"
            assert load.own == type(load.own)(), (
                f"router {number} counts work of its own at {name}: {load.own}"
            )
            known = router.index.blocks_of(name)
            assert known <= held, f"router {number}: {name} does not hold {len(known - held)} blocks"
            assert len(known) == router.index.held[name]
            if router.index.max_blocks >= 100_000:
                assert known == held, f"router {number} knows nothing of {len(held - known)} blocks at {name}"
        assert len(router.index) <= router.index.max_blocks


def _cluster(seed: int, rng: Random) -> Cluster:
    network = Network(
        loss=rng.choice([0.0, 0.0, 0.05, 0.3]),
        events_late_s=rng.choice([0.0, 0.02, 0.5]),
        lease_s=rng.choice([0.0, 0.5, 3.0]),
    )
    machine = Machine(
        prefill_tokens_per_s=rng.choice([2000.0, 20_000.0]),
        step_tokens=256,
        max_running=rng.choice([2, 64]),
        blocks=rng.choice([30, 60, 400]),
        block_size=256,
    )
    return Cluster(
        seed,
        rng.choice(POLICIES),
        workers=rng.randrange(1, 5),
        routers=rng.randrange(1, 4),
        machine=machine,
        network=network,
        limits=rng.choice([Limits(), Limits(max_waiting=3), Limits(max_usage=0.9)]),
        max_blocks=rng.choice([20, 200, 100_000, 100_000]),
    )


def _cut(row: Row) -> Row:
    """The trace's blocks are of 512 tokens; here they are half as long, so the prompts are, too."""
    return replace(row, input_length=max(row.input_length // 2, 1), output_length=min(row.output_length, 300))


def _plan_faults(cluster: Cluster, rng: Random) -> None:
    clock = cluster.clock

    def death() -> None:
        alive = [worker for worker in cluster.workers.values() if worker.alive]
        # The last one stays: the others' requests have to go somewhere.
        if len(alive) > 1:
            cluster.die(rng.choice(alive).name)

    def part() -> None:
        pair = (rng.randrange(len(cluster.routers)), rng.choice(sorted(cluster.workers)))
        cluster.cut_off.add(pair)
        clock.after(rng.uniform(0.1, 5.0), cluster.cut_off.discard, pair)

    def clear() -> None:
        for worker in cluster.workers.values():
            if worker.alive:
                worker.clear()

    for fault, most in ((death, 3), (cluster.join, 2), (part, 3), (clear, 2)):
        for _ in range(rng.randrange(most + 1)):
            clock.after(rng.uniform(0, BUSY_S), fault)
    for passage in cluster.passages:
        if rng.random() < 0.15:
            clock.after(passage.at_s + rng.uniform(0, 1.0), cluster.cancel, passage)


def _rest(cluster: Cluster) -> None:
    """Faults end, and everything that is on its way arrives."""
    clock = cluster.clock
    clock.run(clock.now_s + BUSY_S)
    cluster.network = replace(cluster.network, loss=0.0, report_s=1.0)
    cluster.cut_off.clear()
    clock.run(clock.now_s + REST_S)


def _check_passage(passage: Passage) -> None:
    name = passage.request.id
    assert passage.over, f"{name} was lost"
    if not passage.cancelled:
        assert passage.first_s is not None, f"{name} ended without a first token"
        assert passage.end_s is not None
        assert passage.at_s < passage.first_s <= passage.end_s
        assert 0 <= passage.hit_tokens < passage.request.tokens


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        play(int(argument))
        print(f"seed {argument}: everything holds")
