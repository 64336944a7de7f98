"""Every flush, fence, sync and checksum test is needed: taken out, a crash or damage is missed.

A crash test that no mutant fails proves nothing. Each site of persist.h is taken out in turn;
the same simulation that finds nothing wrong with the whole code must find something then.
"""

from __future__ import annotations

from typing import Any

import pytest
from simulation import run

from pmkv._simulator import SITE_TYPES, SimulationFailure, Simulator

# The workload that shows it soonest, where "mixed" is not the one.
SHOWN_BY: dict[str, str] = {
    "FLUSH_INDIRECT": "larger_than_the_ring",
    "FENCE_CHECKPOINT_DONE": "larger_than_the_ring",
    "SYNC_CHECKPOINT_DONE": "larger_than_the_ring",
    "FLUSH_RING_END": "retried",
    "FENCE_RECOVERED": "retried",
    "SYNC_RECOVERED": "retried",
}
ORDERING = [site for site, kind in SITE_TYPES.items() if kind in "FBS"]

# These decide about the last entry of a crashed ring; the others about damage to a quiet pool.
CHECKS_OF_CRASHES = ["CHECK_ENTRY", "CHECK_POSITION"]
ALL_CHECKS = [site for site, kind in SITE_TYPES.items() if kind == "C"]
CHECKS_OF_DAMAGE = [site for site in ALL_CHECKS if site not in CHECKS_OF_CRASHES]


def is_found(site: str) -> bool:
    """Whether some crash goes wrong with the site taken out."""
    options: dict[str, Any] = {"page_domain": site.startswith("SYNC"), "deeper": 4}
    for seed in range(6):
        try:
            sim = run(SHOWN_BY.get(site, "mixed"), seed=seed, mutant=site, **options)
        except SimulationFailure:
            return True
        assert sim.mutant_hits, f"{site} is never reached"
    return False


@pytest.mark.parametrize("site", ORDERING + CHECKS_OF_CRASHES)
def test_taking_out_one_site_makes_a_crash_go_wrong(site: str) -> None:
    assert is_found(site)


def quiet_pool(mutant: str | None, *, with_indirect: bool) -> Simulator:
    sim = Simulator(mutant=mutant, deeper=0)
    sim.put(b"small", b"s" * 100, explored=False)
    sim.put(b"large", b"L" * 6000, explored=False)
    if with_indirect:
        sim.put_many({b"key%d" % i: b"v" * 100 for i in range(150)}, explored=False)
    return sim


@pytest.mark.parametrize("site", CHECKS_OF_DAMAGE)
def test_damage_is_noticed_by_exactly_the_check_that_guards_against_it(site: str) -> None:
    key = b"large" if site == "CHECK_VALUE" else b"small"
    for mutant in (None, site):
        sim = quiet_pool(mutant, with_indirect=site == "CHECK_INDIRECT")
        assert sim.notices(site, key) is (mutant is None)
        sim.close()


def test_every_site_is_put_to_the_test() -> None:
    tested = {*ORDERING, *CHECKS_OF_CRASHES, *CHECKS_OF_DAMAGE, "NO_SITE"}
    assert tested == set(SITE_TYPES)
