"""The cache of decoded values: bounded, never wrong, and not flushed by a scan."""

from __future__ import annotations

import random
import sys
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmkv._cache import Cache
from pmkv._oracle import until

KIB = 1 << 10
MIB = 1 << 20


def value_of(number: int, size: int = 100) -> bytes:
    """A new object, different for each number."""
    return (b"%d," % number).ljust(size, b"*")


def keep(cache: Cache, numbers: range, size: int = 100) -> None:
    for number in numbers:
        assert cache.put(1, number, number * 16, b"key %d" % number, value_of(number, size))


def found(cache: Cache, numbers: range) -> int:
    """How many are there; each of them what it should be."""
    values = [cache.get(1, number, number * 16, b"key %d" % number) for number in numbers]
    there = [(number, value) for number, value in zip(numbers, values, strict=True) if value]
    assert all(value == value_of(number, len(value)) for number, value in there)
    return len(there)


def test_what_was_put_is_found_as_the_object_that_it_was() -> None:
    cache = Cache(MIB)
    value = value_of(1)
    assert cache.get(1, 2, 48, b"key") is None
    assert cache.put(1, 2, 48, b"key", value)
    assert cache.get(1, 2, 48, b"key") is value
    assert (cache.hits, cache.misses, cache.entries, cache.evictions) == (1, 1, 1, 0)


def test_another_namespace_commit_key_or_place_is_not_found() -> None:
    cache = Cache(MIB)
    cache.put(1, 2, 48, b"key", b"value")
    for other in [(2, 2, 48, b"key"), (1, 3, 48, b"key"), (1, 2, 64, b"key"), (1, 2, 48, b"kez")]:
        assert cache.get(*other) is None
    assert cache.get(1, 2, 48, b"ke") is cache.get(1, 2, 48, b"keys") is None
    assert (cache.hits, cache.misses) == (0, 6)


def test_the_same_key_is_kept_under_several_commits_and_namespaces() -> None:
    cache = Cache(MIB)
    names = [(space, commit) for space in range(5) for commit in range(5)]
    for space, commit in names:
        cache.put(space, commit, 48, b"key", b"%d %d" % (space, commit))
    for space, commit in names:
        assert cache.get(space, commit, 48, b"key") == b"%d %d" % (space, commit)
    assert cache.entries == 25


def test_a_value_that_is_put_again_takes_no_more_room() -> None:
    cache = Cache(MIB)
    cache.put(1, 2, 48, b"key", b"value")
    before = cache.held
    assert cache.put(1, 2, 48, b"key", bytes(bytearray(b"value")))
    assert (cache.held, cache.entries) == (before, 1)


@pytest.mark.parametrize("key", [b"", b"\0", b"\0\0", b"k" * 65536])
@pytest.mark.parametrize("value", [b"", b"\0", b"v" * 5000])
def test_keys_and_values_of_any_size(key: bytes, value: bytes) -> None:
    cache = Cache(MIB)
    assert cache.put(2**64 - 1, 2**64 - 1, 2**64 - 16, key, value)
    assert cache.get(2**64 - 1, 2**64 - 1, 2**64 - 16, key) is value


def test_colliding_hashes_are_told_apart_whoever_leaves_first() -> None:
    """Commit and place make the hash: here all have the same."""
    cache = Cache(64 * KIB)
    for number in range(3000):
        key = b"%d" % number
        assert cache.put(number % 3, 7, 48, key, value_of(number))
        assert cache.get(number % 3, 7, 48, key) == value_of(number)
        assert cache.get(number % 3 + 1, 7, 48, key) is None
    assert cache.evictions > 2000
    there = [n for n in range(3000) if cache.get(n % 3, 7, 48, b"%d" % n)]
    assert len(there) == cache.entries
    assert all(cache.get(n % 3, 7, 48, b"%d" % n) == value_of(n) for n in there)


def test_commits_whose_hashes_collide_are_told_apart() -> None:
    """A place that is the seed makes one factor of the hash zero."""
    place = hash(b"a cache's seed") % 2**64
    cache = Cache(MIB)
    for commit in range(100):
        assert cache.get(1, commit, place, b"key") is None
        cache.put(1, commit, place, b"key", value_of(commit))
    for commit in range(100):
        assert cache.get(1, commit, place, b"key") == value_of(commit)


# ---- the bound ----


@pytest.mark.parametrize("capacity", [0, 1, 100, 800])
def test_a_cache_without_room_holds_nothing(capacity: int) -> None:
    cache = Cache(capacity)
    assert not cache.put(1, 2, 48, b"key", b"value")
    assert cache.get(1, 2, 48, b"key") is None
    assert (cache.held, cache.entries) == (0, 0)
    cache.clear()


def test_a_value_larger_than_a_tenth_is_not_held_and_displaces_nothing() -> None:
    cache = Cache(MIB)
    keep(cache, range(100))
    before = cache.held
    for size in (MIB // 10, MIB, 3 * MIB):
        assert not cache.put(1, 2, 48, b"large", bytes(size))
    assert not cache.put(1, 2, 48, b"k" * (MIB // 10), b"")
    assert (cache.held, found(cache, range(100))) == (before, 100)
    assert cache.put(1, 2, 48, b"large", bytes(MIB // 11))


@pytest.mark.parametrize("size", [0, 1, 30, 100, 1000, 6000])
def test_the_bound_holds_and_is_made_use_of(size: int) -> None:
    cache = Cache(MIB // 8)
    for number in range(5000):
        cache.put(1, number, number * 16, b"", value_of(number, size))
        assert cache.held <= cache.capacity
    assert cache.held > 0.7 * cache.capacity  # the table may not grow beyond a third
    assert cache.evictions == 5000 - cache.entries


def test_the_table_grows_in_a_full_cache_when_values_become_small() -> None:
    cache = Cache(MIB)
    keep(cache, range(500), size=20_000)
    assert cache.entries < 60
    for number in range(500, 20_000):
        keep(cache, range(number, number + 1), size=10)
        assert cache.held <= MIB
    assert cache.entries > 4000


def test_what_is_held_is_what_was_allocated(traced: None) -> None:
    before = tracemalloc.get_traced_memory()[0]
    cache = Cache(MIB)
    for number in range(30_000):
        cache.put(1, number, number * 16, b"key %d" % number, value_of(number, number % 300))
        if number % 500 == 0:
            allocated = tracemalloc.get_traced_memory()[0] - before
            assert 0.8 * cache.held - 1000 < allocated < cache.held + 1000
    cache.clear()
    assert tracemalloc.get_traced_memory()[0] - before < 1000
    assert (cache.held, cache.entries) == (0, 0)


def test_held_is_exact_but_for_the_word_of_each_allocation(traced: None) -> None:
    """Of a node, 48 bytes and the key, and a value, 33 and its own, nothing is rounded here."""
    cache = Cache(MIB)
    before = tracemalloc.get_traced_memory()[0]
    for number in range(6000):
        cache.put(1, number, number * 16, b"8 bytes.", value_of(number, 7))
    allocated = tracemalloc.get_traced_memory()[0] - before
    assert cache.evictions == 0
    assert abs(allocated + 16 * cache.entries + 32 - cache.held) < 500


def test_not_even_growing_takes_more_than_the_capacity(traced: None) -> None:
    cache = Cache(MIB)
    before = tracemalloc.get_traced_memory()[0]
    keep(cache, range(2000), size=1000)
    tracemalloc.reset_peak()
    for number in range(2000, 20_000):
        cache.put(1, number, number * 16, b"8 bytes.", value_of(number, 103))
    assert cache.entries > 4000
    assert tracemalloc.get_traced_memory()[1] - before < MIB + 5 * KIB


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("way", ["clear", "dealloc", "evict"])
def test_references_are_given_back(way: str) -> None:
    values = [value_of(number) for number in range(100)]
    before = [sys.getrefcount(value) for value in values]
    cache = Cache(MIB)
    for number, value in enumerate(values):
        cache.put(1, number, number * 16, b"key", value)
        cache.get(1, number, number * 16, b"key")
    del value
    assert [sys.getrefcount(value) for value in values] == [n + 1 for n in before]
    if way == "clear":
        cache.clear()
    elif way == "dealloc":
        del cache
    else:
        keep(cache, range(1000, 20_000))
    assert [sys.getrefcount(value) for value in values] == before


def test_a_cleared_cache_is_as_good_as_new() -> None:
    cache = Cache(MIB)
    keep(cache, range(10_000))
    cache.clear()
    cache.clear()
    assert found(cache, range(10_000)) == 0
    keep(cache, range(100))
    assert found(cache, range(100)) == cache.entries == 100


@pytest.mark.parametrize("other", [None, "text", bytearray(b"v"), memoryview(b"v"), until(b"v", 1)])
def test_only_bytes_are_held(other: object) -> None:
    cache = Cache(MIB)
    with pytest.raises(TypeError):
        cache.put(1, 2, 48, b"key", other)  # type: ignore[arg-type]
    assert cache.get(1, 2, 48, b"key") is None
    assert cache.held == 0


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(OverflowError):
        Cache(-1)
    with pytest.raises(OverflowError):
        Cache(MIB).get(-1, 0, 0, b"")
    with pytest.raises(TypeError):
        Cache(MIB).get(0, 0, 0, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("entries", [0, 5, 10, 21, 42])
def test_without_memory_the_cache_goes_without(entries: int) -> None:
    """Each allocation in turn fails: of a node; with 0, 10, 21 and 42, of ghosts and slots too."""
    nomemory = pytest.importorskip("_testcapi", reason="fails allocations")
    refused = 0
    for failing in range(8):
        cache = Cache(MIB)
        keep(cache, range(entries))
        name, value = (1, 2, 48, b"key"), value_of(1)
        put, references = cache.put, sys.getrefcount(value)
        kept = False
        nomemory.set_nomemory(failing, failing + 1)
        try:
            kept = put(*name, value)
        except MemoryError:  # of the interpreter's own
            pass
        finally:
            nomemory.remove_mem_hooks()
        refused += not kept
        assert sys.getrefcount(value) == references + kept
        assert (cache.get(*name) == value) is kept
        assert found(cache, range(entries)) == cache.entries - kept
        keep(cache, range(100))
        assert found(cache, range(100)) == 100
    assert refused >= (1 if entries == 5 else 3)


# ---- who stays ----


@pytest.mark.parametrize("full", [False, True], ids=["new", "full"])
def test_a_scan_of_ten_times_the_capacity_leaves_the_hot_ones(full: bool) -> None:
    cache = Cache(MIB)
    if full:
        keep(cache, range(100_000, 110_000))
    hot = range(1000)
    keep(cache, hot)
    for _ in range(3):
        for number in hot:  # asked as a reader asks: what is not there is decoded, and kept
            if not found(cache, range(number, number + 1)):
                keep(cache, range(number, number + 1))
    keep(cache, range(200_000, 200_000 + 10 * MIB // 200))
    assert cache.evictions > 40_000
    assert found(cache, hot) > 950


def test_who_comes_back_soon_stays() -> None:
    """A ghost leads to the main queue, through which a scan does not pass."""
    cache = Cache(MIB)
    keep(cache, range(10_000, 20_000))
    returning = range(300)
    keep(cache, returning)
    keep(cache, range(20_000, 25_000))
    assert found(cache, returning) == 0
    keep(cache, returning)
    keep(cache, range(30_000, 60_000))
    assert found(cache, returning) > 280


def test_ghosts_outlive_the_growth_of_the_table() -> None:
    cache = Cache(MIB)
    returning = range(50)
    keep(cache, returning, size=5000)
    keep(cache, range(1000, 1250), size=5000)
    assert found(cache, returning) == 0
    keep(cache, range(2000, 5000))
    assert cache.entries > 2000
    keep(cache, returning)
    keep(cache, range(10_000, 40_000))
    assert found(cache, returning) > 40  # a bucket may have overflowed


def test_in_the_main_queue_who_is_used_stays_longer() -> None:
    cache = Cache(MIB)
    used, unused = range(1500), range(1500, 3000)
    keep(cache, range(3000))
    for _ in range(2):
        found(cache, range(3000))
    keep(cache, range(10_000, 20_000))
    for first in range(20_000, 30_000, 1000):
        found(cache, used)
        later = range(first, first + 400)
        keep(cache, later)
        for _ in range(2):
            found(cache, later)
        keep(cache, range(first + 400, first + 1000))
    assert found(cache, unused) == 0
    assert found(cache, used) > 1400


def test_what_was_hot_once_goes_in_the_end() -> None:
    cache = Cache(MIB)
    keep(cache, range(2000))
    for _ in range(5):
        assert found(cache, range(2000)) == 2000
    for first in range(10_000, 30_000, 1500):
        later = range(first, first + 1500)
        keep(cache, later)
        for _ in range(3):
            found(cache, later)
    assert found(cache, range(2000)) == 0


def test_a_full_cache_of_which_all_was_used_takes_new_ones() -> None:
    cache = Cache(MIB)
    keep(cache, range(20_000))
    for _ in range(4):
        found(cache, range(20_000))
    for number in range(30_000, 40_000):
        keep(cache, range(number, number + 1))
        assert found(cache, range(number, number + 1)) == 1


# ---- against a model ----

NAMES = st.tuples(
    st.integers(0, 2),
    st.integers(0, 30),
    st.sampled_from([0, 16, 32]),
    st.sampled_from([b"", b"a", b"ab", b"a" * 40, b"b" * 300]),
)
STEPS = st.tuples(st.sampled_from("pppgggc"), NAMES)


def model_value(name: tuple[int, int, int, bytes]) -> bytes:
    """The value is a function of namespace, commit and key: not of the place."""
    space, commit, _, key = name
    return repr((space, commit, key)).encode() * (commit % 12)


@given(
    st.sampled_from([0, 500, 1000, 3000, 20_000, 200_000]),
    st.lists(STEPS, max_size=300),
)
@settings(max_examples=200, deadline=None)
def test_what_is_found_is_what_was_kept_and_the_bound_holds(
    capacity: int, steps: list[tuple[str, tuple[int, int, int, bytes]]]
) -> None:
    cache = Cache(capacity)
    kept = set()
    asked = 0
    for step, name in steps:
        if step == "c" and name[1] == 0:
            cache.clear()
            kept.clear()
        elif step == "p":
            if cache.put(*name, model_value(name)):
                kept.add(name)
                assert cache.get(*name) == model_value(name)
                asked += 1
        else:
            value = cache.get(*name)
            asked += 1
            assert value is None or (name in kept and value == model_value(name))
        assert cache.held <= capacity
        assert cache.entries <= len(kept)
        assert cache.hits + cache.misses == asked


@pytest.mark.parametrize("seed", range(5))
def test_random_use_of_many_keys_and_sizes(seed: int, effort: int) -> None:
    chance = random.Random(seed)
    cache = Cache(chance.choice([5 * KIB, 50 * KIB, MIB]))
    for _ in range(50_000 * effort):
        number = int(chance.paretovariate(0.5)) % 100_000
        name = (number % 5, number // 7, number * 16, b"%d" % (number % 11))
        value = cache.get(*name)
        assert value is None or value == value_of(number, number % 400)
        if value is None:
            cache.put(*name, value_of(number, number % 400))
        assert cache.held <= cache.capacity
    assert cache.hits > 1000
