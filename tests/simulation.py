"""Workloads for the persistence simulator: what is crashed, and how.

Each runs operations on a simulated pool; the simulator crashes every one of them at every
fence, judges each state that the crash may leave, and raises SimulationFailure for a wrong one.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

from pmkv._oracle import coded, coding_of
from pmkv._simulator import Simulator

FAR_OFF = 1 << 55  # microseconds since 1970: in the year 3111
SIZES = (0, 3, 50, 100, 100, 200, 1500, 2000, 5000)
STAGES = (1, 2, 16, 17, 64, 255)


def mixed(sim: Simulator, rng: random.Random, rounds: int) -> None:
    """Puts, deletes, batches, pins, checkpoints and clears of a dozen keys."""
    keys = [b"k%d" % i for i in range(12)]
    for _ in range(rounds):
        chance, key = rng.random(), rng.choice(keys)
        if chance < 0.55:
            sim.put(key, rng.randbytes(rng.choice(SIZES)))
        elif chance < 0.7:
            sim.delete(key)
        elif chance < 0.8:
            count = rng.choice((3, 8, 40))
            sim.put_many({rng.choice(keys): rng.randbytes(rng.choice(SIZES)) for _ in range(count)})
        elif chance < 0.85:
            sim.checkpoint()
        elif chance < 0.93:
            sim.pin(key)
        elif chance < 0.99:
            sim.unpin()
        else:
            sim.clear()


def larger_than_the_ring(sim: Simulator, rng: random.Random, rounds: int) -> None:
    """Batches whose words do not fit the ring, each followed by what may reuse their pages."""
    sim.put_many({b"key%d" % i: b"" for i in range(150)}, explored=False)
    for _ in range(max(1, rounds // 12)):
        sim.put_many({b"key%d" % i: rng.randbytes(100) for i in range(150)})
        for i in range(4):
            sim.put(b"x%d" % i, rng.randbytes(5000 if i % 2 == 0 else 100))


def retried(sim: Simulator, rng: random.Random, rounds: int) -> None:
    """Puts of few keys whose entries span lines and sectors; each again with a byte changed."""
    for _ in range(rounds):
        sim.put(b"k%d" % rng.randrange(4), rng.randbytes(rng.choice((100, 700, 1200))))


def splitting(sim: Simulator, rng: random.Random, rounds: int) -> None:
    """A mapping that is loaded unobserved, then grows through splits of its leaves."""
    for i in range(420):
        sim.put(b"%06d" % i, b"v" * (i % 7), explored=False)
    for i in range(rounds):
        sim.put(b"%06d" % (1000 + i), rng.randbytes(20))
    sim.clear()


def ordered(sim: Simulator, rng: random.Random, rounds: int) -> None:
    """Keys whose nodes split and join: with long shared prefixes, and too long for a node."""
    names = [b"p" * rng.choice((1, 60, 120)) + b"%02d" % i for i in range(40)]
    names += [b"q" * 140 + b"%02d" % i for i in range(40)]
    for name in rng.sample(names, 60):
        sim.put(name, b"", explored=False)
    sim.checkpoint()
    for _ in range(rounds):
        if rng.random() < 0.5:
            sim.put(rng.choice(names), rng.randbytes(rng.choice((0, 20))))
        else:
            sim.delete(rng.choice(names))
    for count in (12, 40):  # more than go into the order together, and nodes divide meanwhile
        sim.put_many({name: b"" for name in rng.sample(names, count)})
    for i, name in enumerate(rng.sample(names, len(names))):
        sim.delete(name, explored=i % 10 == 0)
        if i % 5 == 0:
            sim.checkpoint(explored=False)


def transactions(sim: Simulator, rng: random.Random, rounds: int) -> None:
    """Many changes of several namespaces in one commit; namespaces made, dropped, made again."""
    keys, names = [b"k%d" % i for i in range(8)], [b"a", b"b", b"c"]
    for _ in range(rounds // 2):
        steps: list[Any] = []
        for _ in range(rng.choice((1, 2, 5, 12))):
            value = rng.randbytes(rng.choice(SIZES)) if rng.random() < 0.7 else None
            step = (rng.choice(keys), value)
            steps.append(step if rng.random() < 0.4 else (rng.choice(names), *step))
        sim.transaction(steps)
        if rng.random() < 0.15:
            sim.drop(rng.choice(names))
        elif rng.random() < 0.1:
            sim.checkpoint()


def savepoints(sim: Simulator, rng: random.Random, rounds: int) -> None:
    """Transactions of which parts are undone, also parts of these: nodes that are split, changed
    again and again, given back; more ranges than a transaction remembers."""
    keys = [b"k" * rng.choice((1, 1, 100, 200)) + b"%02d" % i for i in range(30)]
    keys += [b"%02d" % i for i in range(30)]

    def steps(depth: int) -> list[Any]:
        made: list[Any] = []
        for _ in range(rng.choice((1, 4, 12))):
            value = rng.randbytes(rng.choice(SIZES)) if rng.random() < 0.7 else None
            step = (rng.choice(keys), value)
            made.append(step if rng.random() < 0.7 else (rng.choice([b"a", b"b"]), *step))
        for _ in range(rng.choice((0, 0, 1, 2)) if depth < 3 else 0):
            made.insert(rng.randrange(len(made) + 1), steps(depth + 1))
        return made

    sim.put_many({key: b"" for key in rng.sample(keys, 40)}, explored=False)
    for i in range(rounds // 2):
        large = [(b"n%d" % i, b"%03d" % j, b"x" * j) for j in range(90 if i % 4 == 0 else 0)]
        undone = [(*step[:2], None) for step in large[::3]] + steps(1)
        sim.transaction(large + steps(1) + [undone] + steps(2))
        if rng.random() < 0.1:
            sim.checkpoint()


def snapshots(sim: Simulator, rng: random.Random, rounds: int) -> None:
    """Readers that come and go between writes of all kinds; what only they see is cleared away."""
    keys = [b"k%d" % i for i in range(8)] + [b"", b"\0", b"k\0", b"k1\0\0", b"l" * 300 + b"\0"]
    names = [b"a", b"b", b"u", b"unordered"]
    for _ in range(rounds):
        chance, key, size = rng.random(), rng.choice(keys), rng.choice(SIZES)
        if chance < 0.17 and len(sim.moments) < 4:
            sim.snapshot()
        elif chance < 0.3:
            sim.end_snapshot(rng.randrange(4))
        elif chance < 0.5:
            sim.put(key, rng.randbytes(size))
        elif chance < 0.6:
            sim.delete(key)
        elif chance < 0.65:
            sim.put_many({rng.choice(keys): rng.randbytes(rng.choice(SIZES)) for _ in range(6)})
        elif chance < 0.85:
            sim.transaction(
                [
                    (
                        rng.choice(names),
                        rng.choice(keys),
                        rng.choice((None, b"", rng.randbytes(size))),
                    )
                    for _ in range(rng.choice((1, 4, 9)))
                ]
            )
        elif chance < 0.89:
            sim.drop(rng.choice(names))
        elif chance < 0.92:
            sim.clear()
        elif chance < 0.95:
            sim.collect()
        elif chance < 0.98:
            sim.pin(key)
        else:
            sim.unpin()
    while sim.moments:
        sim.end_snapshot(0)
    sim.collect()
    assert sim.versions() == 0


def compacting(sim: Simulator, rng: random.Random, rounds: int) -> None:
    """A pool of which most is deleted, and what is left moved down while some is written."""
    names = [b"k%03d" % i for i in range(90)] + [b"p" * 150 + b"%d" % i for i in range(12)]
    names += [b"l" * 4200 + b"%d" % i for i in range(3)]
    for i in range(rounds // 30 + 1):
        sim.put_many({name: rng.randbytes(rng.choice(SIZES)) for name in names}, explored=False)
        for name in (b"a", b"b"):
            steps: list[Any] = [(name, key, rng.randbytes(80)) for key in names[:12]]
            sim.transaction(steps, explored=False)
        for name in names[::4]:
            sim.put(name, rng.randbytes(rng.choice(SIZES)), expiry=FAR_OFF, explored=False)
        for name in rng.sample(names, 90):
            sim.delete(name, explored=False)
        sim.drop(b"a", explored=False)
        sim.checkpoint(explored=False)
        left = [key for key in sim.model if isinstance(key, bytes)]
        sim.pin(left[0])
        pairs = [(rng.choice(left), rng.randbytes(rng.choice(SIZES))) for _ in range(6)]
        before = sim.file_pages
        sim.compact(pairs if i % 2 else [])
        assert sim.file_pages < before
        sim.unpin()
        sim.put(rng.choice(names), rng.randbytes(5000))


def expiring(sim: Simulator, rng: random.Random, rounds: int) -> None:
    """A clock that goes on: keys put to expire, touched, swept, overwritten, some of it undone; and
    readers, each of whom goes by the time when it came."""
    keys, numbers = [b"k%d" % i for i in range(9)] + [b"l" * 4100], itertools.count()
    sim.time = 1_000_000

    def time() -> int:
        """Soon, and no two the same: which one a sweep takes first is known."""
        return sim.time + rng.randrange(1, 30) * 100_000 + next(numbers)

    def step() -> Any:
        value = rng.randbytes(rng.choice(SIZES))
        what = rng.choice((value, (value, time()), (value, time()), time(), time(), 0, None))
        return (*rng.choice(((), (b"a",), (b"b",), (b"u",))), rng.choice(keys), what)

    def steps(depth: int) -> list[Any]:
        made = [step() for _ in range(rng.choice((1, 3, 9)))]
        if rng.random() < 0.3:
            made.insert(rng.randrange(len(made) + 1), rng.choice((1, 4, 100)))
        if depth < 3 and rng.random() < 0.4:
            made.insert(rng.randrange(len(made) + 1), steps(depth + 1))
        return made

    for _ in range(rounds):
        chance = rng.random()
        sim.time += rng.randrange(2) * 200_000
        if chance < 0.45:
            sim.transaction(steps(1))
        elif chance < 0.6:
            sim.transaction([rng.choice((1, 3, 100))])
        elif chance < 0.7:
            sim.delete(rng.choice(keys))
        elif chance < 0.8 and len(sim.moments) < 3:
            sim.snapshot()
        elif chance < 0.9:
            sim.end_snapshot(rng.randrange(3))
        elif chance < 0.93:
            sim.drop(rng.choice((b"a", b"b", b"u")))
        elif chance < 0.95:
            sim.clear()
        elif chance < 0.97:
            sim.collect()
        else:
            sim.pin(rng.choice(keys))
            sim.checkpoint()
            sim.unpin()
    sim.time = FAR_OFF
    sim.transaction([1000])
    assert not any(hasattr(value, "expiry") for value in sim.model.values())


def compacting_under_readers(sim: Simulator, rng: random.Random, rounds: int) -> None:
    """Compaction of what expires, while readers see what was overwritten, swept, dropped since."""
    names = [b"k%02d" % i for i in range(50)] + [b"p" * 150 + b"%d" % i for i in range(8)]
    names += [b"l" * 4200 + b"%d" % i for i in range(2)]
    spaces: list[tuple[bytes, ...]] = [(), (b"a",), (b"u",)]
    for i in range(rounds // 30 + 1):
        sim.time = 1000 * (i + 1)
        steps: list[Any] = []
        for j, (space, name) in enumerate(itertools.product(spaces, names)):
            value = rng.randbytes(rng.choice(SIZES))
            expiry = rng.choice((0, FAR_OFF + j, sim.time + 1 + j))
            steps.append((*space, name, (value, expiry)))
        sim.transaction(steps, explored=False)
        for _ in range(2):
            sim.snapshot()
            some = rng.sample(steps, 50)
            sim.transaction([(*step[:-1], None) for step in some], explored=False)
            sim.put(rng.choice(names), rng.randbytes(rng.choice(SIZES)), explored=False)
            sim.transaction([(*step[:-1], FAR_OFF + 1000 + i) for step in some], explored=False)
        sim.drop(rng.choice((b"a", b"u")), explored=False)
        sim.time += 500
        sim.transaction([1000], explored=False)
        sim.pin(rng.choice([key for key in sim.model if isinstance(key, bytes)]))
        before = sim.file_pages
        sim.compact([(rng.choice(names), rng.randbytes(rng.choice(SIZES))) for _ in range(4)])
        sim.end_snapshot(rng.randrange(2))
        sim.compact([(rng.choice(names), rng.randbytes(rng.choice(SIZES))) for _ in range(2)])
        sim.end_snapshot(0)
        sim.collect()
        sim.unpin()
        assert sim.versions() == 0
        sim.compact()
        assert sim.file_pages < before


def some_value(rng: random.Random, kinds: int, expiry: int = 0) -> bytes:
    """A plain value, or one coded in one of many ways; some just about what a page takes."""
    value = rng.randbytes(rng.choice((*SIZES, 4050 + rng.randrange(30))))
    if rng.random() < 0.3:
        return value
    stages = bytes(rng.choice(STAGES[:kinds]) for _ in range(rng.randrange(1, 5)))
    raw_size = rng.choice((0, 7, len(value), 100_000, (1 << 32) - 4096))
    return coded(value, int.from_bytes(stages, "little") << 32 | raw_size, expiry)


def some_batch(
    rng: random.Random, names: list[bytes], keys: list[bytes], kinds: int
) -> dict[bytes, dict[bytes, bytes | None]]:
    """What writeback commits at once: of several namespaces, a fifth of it to delete."""
    return {
        name: {
            key: some_value(rng, kinds) if rng.random() < 0.8 else None
            for key in rng.sample(keys, rng.randrange(1, min(len(keys), 6)))
        }
        for name in rng.sample(names, rng.randrange(1, len(names) + 1))
    }


def coded_values(sim: Simulator, rng: random.Random, rounds: int) -> None:
    """Values that stages have made, beside plain ones: overwritten by each other, deleted, cleared,
    dropped, touched, swept and undone, under readers; in more ways than the root counts at once."""
    keys, numbers = [b"k%d" % i for i in range(9)] + [b"l" * 4100], itertools.count()
    names, ways, sim.time = [b"", b"a", b"b", b"u"], set[int](), 1_000_000
    more = {b"way%d" % i: coded(b"v" * i, 100 + i << 32 | 7) for i in range(20)}
    sim.write_back({b"": dict(more)}, explored=False)

    def time() -> int:
        return sim.time + rng.randrange(1, 30) * 100_000 + next(numbers)

    def step() -> Any:
        value = some_value(rng, 6)
        what = rng.choice((value, value, value, (value, time()), time(), 0, None))
        return rng.choice(names), rng.choice(keys), what

    def steps(depth: int) -> list[Any]:
        made = [step() for _ in range(rng.choice((1, 3, 9)))]
        if rng.random() < 0.2:
            made.insert(rng.randrange(len(made) + 1), rng.choice((1, 100)))
        if depth < 3 and rng.random() < 0.4:
            made.insert(rng.randrange(len(made) + 1), steps(depth + 1))
        return made

    for _ in range(rounds):
        chance, key = rng.random(), rng.choice(keys)
        sim.time += rng.randrange(2) * 200_000
        if chance < 0.2:
            sim.put(key, some_value(rng, 6), expiry=rng.choice((0, 0, time())))
        elif chance < 0.25:
            sim.delete(key)
        elif chance < 0.5:
            sim.transaction(steps(1))
        elif chance < 0.7:
            sim.write_back(some_batch(rng, names, keys, 6))
        elif chance < 0.78 and len(sim.moments) < 3:
            sim.snapshot()
        elif chance < 0.86:
            sim.end_snapshot(rng.randrange(3))
        elif chance < 0.9:
            sim.drop(rng.choice(names[1:]))
        elif chance < 0.92:
            sim.clear()
        elif chance < 0.96:
            sim.collect()
        else:
            sim.pin(key)
            sim.checkpoint()
            sim.unpin()
        ways |= {coding_of(value) >> 32 for value in sim.model.values()}
    while sim.moments:
        sim.end_snapshot(0)
    sim.collect()
    assert len(ways) > rounds and sim.versions() == 0


def writeback(sim: Simulator, rng: random.Random, rounds: int) -> None:
    """Batches of several namespaces, each a commit, now and then one that is larger than the ring;
    in between, direct puts."""
    keys, names = [b"%03d" % i for i in range(150)], [b"", b"a", b"b", b"u"]
    sim.write_back({b"": dict.fromkeys(keys, b"")}, explored=False)
    for i in range(rounds):
        some = rng.sample(keys, rng.choice((2, 5, 12)))
        batches = some_batch(rng, names, some, 2)
        if i % 9 == 8:
            batches[b""] = {key: coded(key * 9, 1 << 32 | i) for key in keys}
        sim.write_back(batches)
        if i % 3 == 0:
            sim.put(rng.choice(keys), rng.randbytes(rng.choice(SIZES)))


def compacting_coded(sim: Simulator, rng: random.Random, rounds: int) -> None:
    """A pool of coded values, of which most are deleted, and what is left moved down."""
    names = [b"k%03d" % i for i in range(80)] + [b"l" * 4200 + b"%d" % i for i in range(4)]
    for i in range(rounds // 30 + 1):
        for space in (b"", b"a", b"u"):
            values = {name: some_value(rng, 2, rng.choice((0, FAR_OFF))) for name in names}
            sim.write_back({space: dict(values)}, explored=False)
        sim.snapshot()
        for space in (b"", b"a", b"u"):
            gone = dict.fromkeys(rng.sample(names, 70))
            sim.write_back({space: dict(gone)}, explored=False)
        sim.end_snapshot(0, explored=False)
        sim.collect(explored=False)
        sim.checkpoint(explored=False)
        before = sim.file_pages
        sim.compact([(rng.choice(names), some_value(rng, 2)) for _ in range(6 * (i % 2))])
        assert sim.file_pages < before


Workload = Callable[[Simulator, random.Random, int], None]
WORKLOADS: dict[str, Workload] = {
    "mixed": mixed,
    "larger_than_the_ring": larger_than_the_ring,
    "retried": retried,
    "splitting": splitting,
    "ordered": ordered,
    "transactions": transactions,
    "savepoints": savepoints,
    "snapshots": snapshots,
    "compacting": compacting,
    "expiring": expiring,
    "compacting_under_readers": compacting_under_readers,
    "coded": coded_values,
    "writeback": writeback,
    "compacting_coded": compacting_coded,
}

# A ring that carries a whole leaf beside the one that carries next to nothing.
RINGS: dict[str, dict[str, int]] = {
    "small ring": {"header_size": 32768, "ring_size": 8192},
    "large ring": {"header_size": 262144, "ring_size": 131072},
}


def run(workload: str, *, seed: int, rounds: int = 40, **options: Any) -> Simulator:
    """The simulator after a workload: its `states` are what was judged."""
    sim = Simulator(seed=seed, **options)
    try:
        WORKLOADS[workload](sim, random.Random(seed), rounds)
        assert sim.check() == []
    finally:
        sim.close()
    return sim
