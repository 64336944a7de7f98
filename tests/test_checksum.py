"""The checksums are what they claim to be."""

from __future__ import annotations

import itertools
import random

import pytest

from pmkv._layout import crc32c, crc32c_by_table, hash64, is_sealed, seal

POLYNOMIAL = 0x82F63B78


def crc32c_bit_by_bit(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_crc32c_of_the_standard_check_string() -> None:
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("size", [*range(0, 40), 1023, 3071, 3072, 3073, 3 * 3072 + 1025, 70_001])
def test_crc32c_in_three_streams_equals_crc32c_bit_by_bit(size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert crc32c(data) == crc32c_bit_by_bit(data)


@pytest.mark.parametrize("first", [0, 1, 4, 15])
def test_crc32c_by_folding_equals_crc32c_by_table(first: int) -> None:
    data = random.Random(3).randbytes(700)
    for words in range(0, 80):
        part = data[first : first + 8 * words]
        assert crc32c(part) == crc32c_by_table(part)


def test_crc32c_by_table_equals_crc32c_by_instruction() -> None:
    data = random.Random(1).randbytes(4096)
    assert crc32c_by_table(data) == crc32c(data)


def test_zero_is_sealed_and_payloads_survive_sealing() -> None:
    assert seal(0) == 0
    for payload in random.Random(2).sample(range(1 << 56), 1000):
        assert is_sealed(seal(payload))
        assert seal(payload) & ((1 << 56) - 1) == payload


def test_any_change_of_a_single_byte_breaks_the_seal() -> None:
    for word in (0, seal(0x123456789ABCDE), seal((1 << 56) - 1)):
        for byte, change in itertools.product(range(8), range(1, 256)):
            assert not is_sealed(word ^ change << 8 * byte)


def test_nearly_every_change_of_two_bits_breaks_the_seal() -> None:
    missed = [(i, j) for i, j in itertools.combinations(range(56), 2) if is_sealed(1 << i | 1 << j)]
    assert len(missed) == 3


def test_hash64_depends_on_every_bit_of_seed_and_data() -> None:
    data = bytes(range(45))
    base = hash64(1, 2, data)
    seen = {base}
    for bit in range(64):
        seen |= {hash64(1 ^ 1 << bit, 2, data), hash64(1, 2 ^ 1 << bit, data)}
    for place, bit in itertools.product(range(len(data)), range(8)):
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        seen.add(hash64(1, 2, bytes(changed)))
    assert len(seen) == 1 + 128 + 45 * 8


def test_hash64_tells_apart_data_that_differs_in_length_alone() -> None:
    assert len({hash64(3, 4, bytes(size)) for size in range(200)}) == 200


def test_hash64_spreads_consecutive_keys_evenly_over_buckets() -> None:
    counts = [0] * 64
    for i in range(64_000):
        counts[hash64(5, 6, b"%016d" % i) & 63] += 1
    assert min(counts) > 800 and max(counts) < 1200
