"""No power cut loses what was acknowledged, or leaves more than the operation in flight besides.

Every state that a crash could leave is laid out, recovered by the code that opens pools,
accounted for page by page and granule by granule, and compared with a model (design: R1 to R5).
"""

from __future__ import annotations

from typing import Any

import pytest
from simulation import RINGS, WORKLOADS, run

from pmkv._oracle import coded, until
from pmkv._simulator import SimulationFailure, Simulator

STATES_WANTED = 1_000_000

# How many rounds of a workload; a state of "splitting" costs a hundred times one of "mixed".
ROUNDS = {"mixed": 20, "larger_than_the_ring": 9, "retried": 12, "splitting": 22}
ROUNDS |= {"ordered": 22, "transactions": 28, "savepoints": 8, "snapshots": 36}
ROUNDS |= {"compacting": 30, "expiring": 24, "compacting_under_readers": 3}
ROUNDS |= {"coded": 14, "writeback": 10, "compacting_coded": 29}
DETAIL: dict[str, dict[str, int]] = {
    "splitting": {"samples": 4, "exhaust": 16, "deeper": 64},
    "ordered": {"samples": 8, "exhaust": 64},
    "transactions": {"samples": 8, "exhaust": 64, "capacity_pages": 1024},
    "savepoints": {"samples": 4, "exhaust": 16, "deeper": 32, "capacity_pages": 1024},
    "snapshots": {"samples": 4, "exhaust": 32, "capacity_pages": 1024},
    "compacting": {"samples": 8, "exhaust": 64, "capacity_pages": 1024},
    "expiring": {"samples": 4, "exhaust": 32, "capacity_pages": 1024},
    "compacting_under_readers": {"samples": 2, "exhaust": 16, "capacity_pages": 2048},
    "coded": {"samples": 4, "exhaust": 32, "capacity_pages": 1024},
    "writeback": {"samples": 4, "exhaust": 32, "capacity_pages": 1024},
    "compacting_coded": {"samples": 4, "exhaust": 32, "capacity_pages": 2048},
}

judged = 0


@pytest.mark.parametrize("page_domain", [False, True], ids=["lines", "sectors"])
@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("workload", WORKLOADS)
def test_every_crash_recovers_to_what_was_acknowledged(
    workload: str, ring: str, page_domain: bool, effort: int
) -> None:
    global judged
    for seed in range(effort):
        sim = run(
            workload,
            seed=seed,
            rounds=ROUNDS[workload],
            page_domain=page_domain,
            **RINGS[ring],
            **DETAIL.get(workload, {}),
        )
        assert sim.states
        judged += len(sim.states)


def test_crashes_were_placed_at_every_kind_of_fence_and_inside_recovery() -> None:
    sim = run("mixed", seed=99, rounds=30, deeper=8)
    assert {"FENCE_DATA", "FENCE_COMMIT", "FENCE_CHECKPOINT"} <= set(sim.counts)
    assert {"FENCE_REPLAY", "FENCE_RECOVERED", "return"} <= set(sim.counts)


def test_a_million_distinct_states_were_judged(effort: int) -> None:
    if judged == 0:
        pytest.skip("counts what the tests above judged in the same run")
    print(f"\n{judged:,} distinct crash states judged, none wrong")
    assert judged >= STATES_WANTED * effort


def test_another_time_than_that_of_the_model_is_noticed() -> None:
    sim = Simulator(deeper=0)
    sim.put(b"a", b"1", expiry=5, explored=False)
    sim.model[b"a"] = until(b"1", 6)
    with pytest.raises(SimulationFailure, match="neither what was acknowledged"):
        sim.put(b"b", b"2")
    sim.close()


@pytest.mark.parametrize(
    "of_model", [coded(b"1", 3 << 32 | 9), coded(b"1", 2 << 32 | 8), b"1"], ids=str
)
def test_another_coding_than_that_of_the_model_is_noticed(of_model: bytes) -> None:
    sim = Simulator(deeper=0)
    sim.put(b"a", coded(b"1", 2 << 32 | 9), explored=False)
    sim.model[b"a"] = of_model
    with pytest.raises(SimulationFailure, match="neither what was acknowledged"):
        sim.put(b"b", b"2")
    sim.close()


def test_other_counts_of_codings_than_those_of_the_model_are_noticed() -> None:
    sim = Simulator(deeper=0)
    sim.put(b"a", coded(b"1", 2 << 32 | 9), explored=False)
    sim.model[b"\0dropped", b"k"] = b"a key that nobody sees"
    sim.put(b"b", b"2")
    sim.model[b"\0dropped", b"k"] = coded(b"counts", 2 << 32 | 9)
    with pytest.raises(SimulationFailure, match="neither what was acknowledged"):
        sim.put(b"b", b"3")
    sim.close()


def test_a_reader_that_sees_another_coding_is_noticed() -> None:
    sim = Simulator(deeper=0)
    sim.put(b"a", coded(b"1", 2 << 32 | 9), explored=False)
    sim.snapshot()
    sim.put(b"a", b"2", explored=False)
    sim.moments[0][1][b"a"] = b"1"
    with pytest.raises(SimulationFailure, match="at moment"):
        sim.put(b"a", b"3", explored=False)
    sim.close()


@pytest.mark.parametrize("wrong", [(b"a", b"x"), (b"b", b"1"), ((b"n", b"a"), b"2")], ids=str)
def test_a_reader_that_sees_something_else_than_its_moment_is_noticed(
    wrong: tuple[Any, bytes],
) -> None:
    sim = Simulator(deeper=0)
    sim.transaction([(b"a", b"1"), (b"n", b"a", b"1"), (b"n", b"b", b"1")], explored=False)
    sim.snapshot()
    sim.put(b"a", b"2", explored=False)
    sim.moments[0][1][wrong[0]] = wrong[1]
    with pytest.raises(SimulationFailure, match="at moment"):
        sim.put(b"a", b"3", explored=False)
    sim.close()
