"""A reader of pools that knows nothing of pmkv but what docs/format.md says.

Whatever does not fit the document is an AssertionError.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from typing import NamedTuple

import lz4.block  # type: ignore[import-untyped]
import zstandard

Line = 64
Page = 4096
M = 2**64 - 1
K0, K1, K2 = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xA5CB9243F9AE3A3D
CRC_TABLE = []
for _byte in range(256):
    _state = _byte
    for _ in range(8):
        _state = (_state >> 1) ^ (0x82F63B78 if _state & 1 else 0)
    CRC_TABLE.append(_state)

# Section 6: units and units' bytes of each class of blocks.
CLASSES = [
    *((units, 16) for units in (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)),
    *((units, 64) for units in (20, 24, 28, 32, 40, 48, 64)),
    *((units, 16) for units in (4, 8, 16, 32, 64, 128)),
]
DROPPED = b"\0dropped\0"
CODECS = b"\0codecs"
FREE, FREE_TAIL, RECORDS, NODES, BODY, EXTENT, LEAF, NODE, LIMBO = range(1, 10)


def crc_update(state: int, data: bytes) -> int:
    for byte in data:
        state = (state >> 8) ^ CRC_TABLE[(state ^ byte) & 255]
    return state


def crc32c(data: bytes) -> int:
    return crc_update(0xFFFFFFFF, data) ^ 0xFFFFFFFF


def seal(w: int) -> int:
    c = crc_update(0, w.to_bytes(8, "little"))
    rotated = (c << 2 | c >> 30) & 0xFFFFFFFF
    return w | ((rotated ^ (c >> 8) ^ (c >> 5)) & 0xFF) << 56


def fold(a: int, b: int) -> int:
    product = a * b
    return (product ^ product >> 64) & M


def short_word(data: bytes) -> int:
    n = len(data)
    if n == 8:
        return int.from_bytes(data, "little")
    if n >= 4:
        return int.from_bytes(data[:4], "little") | int.from_bytes(data[-4:], "little") << 32
    return 0 if n == 0 else data[0] | data[n >> 1] << 8 | data[n - 1] << 16


def hash64(seed0: int, seed1: int, data: bytes) -> int:
    h = seed0 ^ (len(data) * K0 & M)
    at = 0
    while len(data) - at > 16:
        a = int.from_bytes(data[at : at + 8], "little")
        b = int.from_bytes(data[at + 8 : at + 16], "little")
        h = fold(a ^ seed1 ^ K1, b ^ h)
        at += 16
    last = data[at:]
    h = fold(short_word(last[:8]) ^ seed1 ^ K1, short_word(last[8:]) ^ h)
    return fold(h ^ K2, seed0 ^ seed1 ^ K0)


def bin_of(n: int) -> int:
    if n < 4:
        return n - 1
    k = n.bit_length() - 1
    return min(3 + (k - 2) * 4 + ((n >> (k - 2)) & 3), 111)


def class_of(size: int) -> int:
    """The class of a record's body."""
    candidates = range(15) if size <= 1024 else range(15, 22)
    return next(c for c in candidates if CLASSES[c][0] * CLASSES[c][1] >= size)


class Descriptor(NamedTuple):
    kind: int
    block_class: int
    listed: int
    page_count: int
    before: int
    after: int
    owner: int
    bitmap: int


def node_crc(order: bytes, count: int, heads: list[bytes], node: bytes) -> int:
    """Section 9: the check of an order of `count` entries, and of what does not change."""
    pairs = [low + high for high, low in itertools.pairwise(heads)][::2]
    pairs += [heads[-1] + bytes(4)] if len(heads) % 2 else []
    turns = [crc32c(b"".join(pairs[turn::2])) for turn in range(2 if heads else 0)]
    body = node[8 : -(-(12 + node[8]) // 8) * 8]
    return crc32c(order[: -(-count // 8) * 8] + body + struct.pack(f"<{len(turns)}I", *turns))


class Reader:
    """A pool in a copy of its bytes, replayed."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.read_superblock()
        self.replayed = self.replay()
        self.used_units: dict[int, int] = {}  # head page -> bits of the units that were reached
        self.used_runs: set[int] = set()
        self.ids: set[int] = set()  # of namespaces
        self.namespaces: dict[str, dict[bytes, bytes]] = {}
        self.dropped: list[dict[bytes, bytes]] = []
        self.times: dict[int, int] = {}  # when records expire
        self.codings: dict[int, tuple[int, bytes, int]] = {}  # raw size, stages, stored size
        self.places: dict[int, dict[bytes, int]] = {}  # of a root: of its records
        self.roots: dict[str, int] = {}
        self.dictionaries: dict[int, bytes] = {}
        self.expiring: set[bytes] = set()  # keys that the tree of what expires must have
        self.levels = 0  # of the ordered keys
        self.leaf_nodes: list[int] = []  # of the ordered keys, in their order
        self.tails: list[int] = []  # leaves of theirs with keys that are not in their order
        self.parents: list[tuple[int, int]] = []  # nodes above leaves: the place, the level
        self.far_keys = 0

    # section 4

    def read_superblock(self) -> None:
        copy = bytes(self.data[:256])
        assert copy[:8] == b"PMKVPOOL"
        assert struct.unpack_from("<Q", copy, 248)[0] == hash64(0, 0, copy[:248])
        version, page_size = struct.unpack_from("<II", copy, 8)
        assert (version, page_size) == (1, Page)
        assert struct.unpack_from("<Q", copy, 32) == (0,), "incompatible features"
        self.seed = struct.unpack_from("<QQ", copy, 56)
        self.header, self.ring, self.ring_size = struct.unpack_from("<3Q", copy, 72)
        root, self.per_section = struct.unpack_from("<2Q", copy, 96)
        assert root == Page
        assert bytes(self.data[self.header - Page :][:256]) == copy, "copy B"
        room = len(self.data) - self.header
        whole, rest = divmod(room, self.per_section * 4160)
        self.pages = whole * self.per_section + max(0, rest - self.per_section * 64) // Page

    # section 3

    def offset(self, place: int) -> int:
        if place < self.header:
            return place
        if place >> 62:
            page, rest = divmod(place - 2**62, 64)
            at = page % self.per_section * 64
        else:
            page, rest = divmod(place - self.header, Page)
            at = self.per_section * 64 + page % self.per_section * Page
        assert page < self.pages
        return self.header + page // self.per_section * self.per_section * 4160 + at + rest

    def parts(self, place: int, size: int) -> Iterator[tuple[int, int]]:
        """A range of places as (file offset, size), cut at pages."""
        while size > 0:
            part = min(size, Page - place % Page)
            yield self.offset(place), part
            place, size = place + part, size - part

    def read(self, place: int, size: int) -> bytes:
        return b"".join(bytes(self.data[at : at + n]) for at, n in self.parts(place, size))

    def write(self, place: int, data: bytes) -> None:
        done = 0
        for at, n in self.parts(place, len(data)):
            self.data[at : at + n] = data[done : done + n]
            done += n

    def sealed(self, place: int) -> int:
        word = int.from_bytes(self.read(place, 8), "little")
        assert seal(word & (1 << 56) - 1) == word, f"the word at {place:#x} is damaged"
        return word & (1 << 56) - 1

    # section 11

    def from_ring(self, position: int, size: int) -> bytes:
        at = position % (self.ring_size // Line) * Line
        first = min(size, self.ring_size - at)
        begin = self.data[self.ring : self.ring + size - first]
        return bytes(self.data[self.ring + at : self.ring + at + first] + begin)

    def entry_at(self, position: int) -> bytes | None:
        head = self.from_ring(position, 32)
        checksum, found, _, flags, ranges, words = struct.unpack_from("<QQHHHH", head)
        size = 32 + 8 * ranges + 16 * words
        if found != position or size > self.ring_size:
            return None
        if flags & 1:
            head = self.from_ring(position, size)
            for (word,) in struct.iter_unpack("<Q", head[32 : 32 + 8 * ranges]):
                size += (word >> 40) * 16
            if size > self.ring_size:
                return None
        entry = self.from_ring(position, size)
        return entry if hash64(*self.seed, entry[8:]) == checksum else None

    def replay(self) -> int:
        position = start = replay_from = self.sealed(Page)
        entries = {}
        while position - start < self.ring_size // Line:
            entry = self.entry_at(position)
            if entry is None:
                break
            entries[position] = entry
            replay_from = max(start, position - struct.unpack_from("<H", entry, 16)[0])
            position += -(-len(entry) // Line)
        for at, entry in entries.items():
            if at >= replay_from:
                self.replay_entry(entry)
        return len(entries)

    def replay_entry(self, entry: bytes) -> None:
        _, _, _, flags, range_count, word_count, indirect = struct.unpack_from("<QQHHHHQ", entry)
        ranges = [
            ((word & (1 << 40) - 1) << 4, (word >> 40) * 16)
            for (word,) in struct.iter_unpack("<Q", entry[32 : 32 + 8 * range_count])
        ]
        pairs = entry[32 + 8 * range_count :][: 16 * word_count]
        if flags == 2:
            ends = [place + size for place, size in ranges]
            assert [place for place, _ in ranges[1:]] == ends[:-1]
            pairs = b"".join(self.read(*where) for where in ranges)
            assert hash64(*self.seed, pairs) == indirect
        else:
            assert flags == 1
            at = 32 + 8 * range_count + 16 * word_count
            for place, size in ranges:
                self.write(place, entry[at : at + size])
                at += size
        for place, word in struct.iter_unpack("<QQ", pairs):
            self.write(place, word.to_bytes(8, "little"))

    # section 6

    def descriptor(self, page: int) -> Descriptor:
        line = self.read(2**62 + page * 64, 64)
        check, reserved = struct.unpack_from("<II", line, 24)
        assert check == crc_update(0, line[:24] + bytes(8) + line[32:])
        assert reserved == line[3] == 0
        bitmap = int.from_bytes(line[32:], "little")
        return Descriptor(*struct.unpack_from("<BBBxIIIQ", line), bitmap)

    def use_run(self, place: int, size: int, kind: int, owner: int = 0) -> None:
        page, rest = divmod(place - self.header, Page)
        d = self.descriptor(page)
        assert rest == 0 and page not in self.used_runs
        assert (d.kind, d.page_count, d.owner) == (kind, -(-size // Page), owner)
        self.used_runs.add(page)

    def use_units(self, place: int, size: int, kind: int, block_class: int) -> None:
        page = (place - self.header) // Page
        if self.descriptor(page).kind == BODY:
            page -= self.descriptor(page).page_count
        d = self.descriptor(page)
        assert (d.kind, d.block_class) == (kind, block_class)
        unit = CLASSES[block_class][1]
        first, rest = divmod(place - self.header - page * Page, unit)
        bits = (1 << -(-size // unit)) - 1 << first
        used = self.used_units.get(page, 0)
        assert rest == 0 and d.bitmap & bits == bits and used & bits == 0
        self.used_units[page] = used | bits

    def check_block(self, page: int, d: Descriptor) -> None:
        assert d.bitmap == self.used_units.get(page, 0)
        assert d.page_count == (4 if CLASSES[d.block_class][1] == 64 else 1)
        for i in range(1, d.page_count):
            body = self.descriptor(page + i)
            assert (body.kind, body.page_count) == (BODY, i)

    def check_free_run(self, page: int, count: int) -> None:
        inside = [self.descriptor(page + i) for i in range(1, count)]
        if inside:
            assert inside.pop() == Descriptor(FREE_TAIL, 0, 0, count - 1, 0, 0, 0, 0)
        assert set(inside) <= {Descriptor(0, 0, 0, 0, 0, 0, 0, 0)}

    def check_runs(self) -> dict[int, list[int]]:
        """Every page below the frontier is accounted for; the free runs by bin."""
        free: dict[int, list[int]] = {}
        page, total, frontier = 1, 0, self.sealed(Page + 64)
        while page < frontier:
            d = self.descriptor(page)
            if d.kind == FREE:
                free.setdefault(bin_of(d.page_count), []).append(page)
                total += d.page_count
                self.check_free_run(page, d.page_count)
            elif d.kind in (RECORDS, NODES):
                self.check_block(page, d)
            else:
                assert page in self.used_runs
            page += d.page_count
        assert page == frontier
        assert total == self.sealed(Page + 80)
        return free

    def check_bins(self, free: dict[int, list[int]]) -> None:
        for index in range(112):
            page, found = self.sealed(Page + 256 + index * 8), []
            while page:
                found.append(page)
                page = self.descriptor(page).after
            assert sorted(found) == free.get(index, [])
            assert self.sealed(Page + 104 + index // 56 * 8) >> index % 56 & 1 == (found != [])

    # section 7

    def record(self, place: int, namespace_id: int) -> tuple[bytes, bytes]:
        head = self.read(place, 24)
        crc, flags, codec, namespace, _, key_size, value_size = struct.unpack("<IBBHQII", head)
        extended, expires = flags & 1, flags >> 1
        assert expires < 2 and namespace == namespace_id
        begin = 24 + key_size + (8 if codec else 0)
        flat = begin + value_size
        rooms = [(size + 7) // 8 * 8 + 8 if expires else size for size in (flat, begin + 16)]
        assert extended == (
            rooms[0] > Page and (value_size + 8 * expires > Page or rooms[1] <= Page)
        )
        body, room = self.read(place, begin + 16 if extended else flat), rooms[extended]
        assert crc == crc32c(body[4:])
        key, value = body[24 : 24 + key_size], body[begin:]
        if room > Page:
            self.use_run(place, room, EXTENT, place)
        else:
            self.use_units(place, room, RECORDS, class_of(room))
            assert not any(self.read(place + room, -room % 16))
        if expires:
            assert not any(self.read(place + len(body), room - 8 - len(body)))
            self.times[place] = self.sealed(place + room - 8)
        if extended:
            extent, value_crc, reserved = struct.unpack("<QII", value)
            self.use_run(extent, value_size, EXTENT, place)
            value = self.read(extent, value_size)
            assert value_crc == crc32c(value) and reserved == 0
        if codec:
            self.codings[place] = (*struct.unpack("<I4s", body[begin - 8 : begin]), value_size)
            stages = self.codings[place][1].rstrip(b"\0")
            assert stages[-1] == codec and 0 not in stages
        return key, value

    # section 12

    def decoded(self, place: int, value: bytes) -> bytes:
        """The value of a record as it was before its stages, of which encryption is none."""
        raw_size, stages, _ = self.codings.get(place, (len(value), b"", 0))
        for stage in reversed(stages.rstrip(b"\0")):
            dictionary = b""
            if stage in (3, 4):
                dictionary = self.dictionaries[struct.unpack_from("<H", value)[0]]
                value = value[2:]
            if stage in (1, 3):
                value = lz4.block.decompress(value, dict=dictionary)
            elif stage >= 16:
                return value  # encrypted, or of a program's own codec: as stored
            else:
                known = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
                value = zstandard.ZstdDecompressor(known).decompress(value)
        assert len(value) == raw_size
        return value

    def check_codings(self, places: set[int]) -> None:
        """The root counts the values under codecs that mappings lead to."""
        counted: dict[bytes, list[int]] = {}
        for place in places & set(self.codings):
            raw_size, stages, stored = self.codings[place]
            total = counted.setdefault(stages, [0, 0, 0])
            total[:] = [total[0] + 1, total[1] + raw_size, total[2] + stored]
        known, ended = set[int](), False
        for slot in range(Page + 1728, Page + 3776, 32):
            stages, *total = (self.sealed(slot + i * 8) for i in range(4))
            ended |= stages == 0
            assert not any((stages, *total)) if ended else stages not in known
            known.add(stages)
            if any(total):
                assert total == counted.pop(stages.to_bytes(4, "little"))
        assert not counted

    # section 8

    def leaves(self, reference: int, consumed: int = 0) -> Iterator[tuple[int, int]]:
        """(place, depth) of every leaf below a reference."""
        place, bits = (reference & (1 << 40) - 1) << 4, reference >> 46 & 15
        if bits == 0:
            self.use_run(place, Page, LEAF)
            depth = reference >> 40 & 63
            assert depth == self.descriptor((place - self.header) // Page).block_class
            yield place, depth
            return
        if bits == 9:
            self.use_run(place, Page, NODE)
        else:
            self.use_units(place, 8 << bits, NODES, 19 + bits)
        before = None
        for index in range(1 << bits):
            word = self.sealed(place + index * 8)
            if word != before:
                yield from self.leaves(word, consumed + bits)
            before = word

    def look_up(self, root: int, key: bytes) -> int:
        """Place of the record of a key that the namespace has, by its hash."""
        h = hash64(*self.seed, key)
        word, consumed = self.sealed(root), 0
        while bits := word >> 46 & 15:
            node = (word & (1 << 40) - 1) << 4
            word = self.sealed(node + ((h << consumed & M) >> 64 - bits) * 8)
            consumed += bits
        leaf, depth = (word & (1 << 40) - 1) << 4, word >> 40 & 63
        tag = h >> 6 & 63 | ((h << (depth & ~3) & M) >> 56) << 6
        home = h & 63
        overflowed = self.sealed(leaf + home * 64 + 56) >> 55
        buckets = [(home, 0), (home ^ (1 + (h >> 6 & 63) % 63), 1)]
        for bucket, alternate in buckets[: 1 + overflowed]:
            for slot in range(8):
                word = self.sealed(leaf + bucket * 64 + slot * 8)
                place = (word & (1 << 40) - 1) << 4
                fits = word >> 40 & 0x7FFF == tag | alternate << 14
                if place and fits and self.key_at(place) == key:
                    return place
        raise AssertionError(f"{key!r} is not where its hash says")

    def key_at(self, place: int) -> bytes:
        return self.read(place + 24, struct.unpack("<I", self.read(place + 16, 4))[0])

    def pairs(self, root: int) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        places = self.places[root] = dict[bytes, int]()
        top, namespace_id = self.sealed(root), self.sealed(root + 48)
        for leaf, _ in self.leaves(top) if top else ():
            for slot in range(512):
                place = (self.sealed(leaf + slot * 8) & (1 << 40) - 1) << 4
                if place:
                    key, value = self.record(place, namespace_id)
                    assert key not in found and self.look_up(root, key) == place
                    found[key] = value
                    places[key] = place
                    if time := self.times.get(place, 0):
                        ids = namespace_id.to_bytes(2) + (place >> 4).to_bytes(5)
                        self.expiring.add(time.to_bytes(8) + ids)
        assert self.sealed(root + 8) == len(found)
        assert self.sealed(root + 16) == sum(len(k) + len(v) for k, v in found.items())
        return found

    # section 9

    def tree_key(self, node: bytes, at: int, end: int, prefix: bytes) -> tuple[bytes, int]:
        """A key of a node of the ordered keys, and where its entry ends."""
        size, check = struct.unpack_from("<HH", node, at)
        far = size == 0x8000
        stored = node[at + 4 : at + 4 + (8 if far else size)]
        assert (far or len(stored) == size <= 128) and at + 4 + len(stored) <= end
        assert check == crc32c(size.to_bytes(8, "little") + stored) & 0xFFFF
        key, value = prefix + stored, b""
        if far:
            place = int.from_bytes(stored, "little")
            key, value = self.record(place, 0)
            assert self.read(place + 4, 2) == b"\0\0"
            self.far_keys += 1
        assert key.startswith(prefix) and value == b""
        return key, at + 4 + len(stored)

    def tree_node(self, place: int) -> tuple[int, list[tuple[int, int, bytes]]]:
        """The level of a node, and (child, count, key) of its entries in their order.

        The count is -1 where the node does not say it.
        """
        self.use_units(place, 1024, NODES, 26)
        header, node = self.sealed(place), self.read(place, 1024)
        count, area, end = header & 127, header >> 7 & 1, (header >> 8 & 255) * 4
        level, crc, tail = header >> 16 & 15, header >> 20 & 0xFFFFFFFF, header >> 52 & 15
        prefix_size, zero = struct.unpack_from("<HH", node, 8)
        assert zero == 0 and tail < count <= 63 and prefix_size <= 128
        assert tail == 0 or level == 0
        whole = node[896 + area * 64 :][:64]
        heads = [node[at : at + 4] for at in range(892, 892 - 4 * whole[63], -4)] if level else []
        assert end <= (896 - 4 * len(heads)) // 16 * 16
        assert crc == node_crc(whole, count - tail, heads, node)
        order = [offset * 4 for offset in whole[: count - tail]]
        prefix, spans, entries = node[12 : 12 + prefix_size], [(0, 12 + prefix_size)], []
        at = whole[63] * 4
        for _ in range(tail):
            order.append(at)
            at = -(-self.tree_key(node, at, end, prefix)[1] // 4) * 4
        assert tail == 0 or at == end
        for at in order:
            words = min(level, 2) * 8
            key, entry_end = self.tree_key(node, at + words, end, prefix)
            assert at % (8 if level else 4) == 0
            child = self.sealed(place + at) << 4 if level else 0
            below = self.sealed(place + at + 8) if level > 1 else -1
            if level:
                heads.remove(key[prefix_size:][:4].ljust(4, b"\0")[::-1])
            spans.append((at, entry_end))
            entries.append((child, below, key))
        spans.sort()
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))
        if level:
            self.parents.append((place, level))
        else:
            self.leaf_nodes.append(place)
        if tail:
            self.tails.append(place)
            entries.sort(key=lambda entry: entry[2])
        return level, entries

    def ordered_keys(self, place: int, parent: int = 0) -> list[bytes]:
        """The keys below a node. `parent`: its parent's level, 0 if it is the root."""
        level, entries = self.tree_node(place)
        assert level == parent - 1 if parent else level == 0 or len(entries) > 1
        self.levels = max(self.levels, level + 1)
        if level == 0:
            return [key for _, _, key in entries]
        keys: list[bytes] = []
        for index, (child, count, separator) in enumerate(entries):
            below = self.ordered_keys(child, level)
            assert count == (len(below) if level > 1 else -1)
            assert index == 0 or keys[-1] < separator <= below[0]
            keys += below
        return keys

    def check_order(self, root: int, pairs: dict[bytes, bytes]) -> None:
        options, top = self.sealed(root + 24), self.sealed(root + 32) << 4
        keys = self.ordered_keys(top) if top else []
        assert keys == ([] if options & 2 else sorted(pairs))

    # section 5

    def namespace(self, root: int) -> dict[bytes, bytes]:
        """The pairs of the namespace whose root lies there."""
        assert self.sealed(root + 40) == 0 and self.sealed(root + 24) & 0xE0 == 0
        namespace_id = self.sealed(root + 48)
        assert namespace_id not in self.ids and namespace_id < 1 << 16
        self.ids.add(namespace_id)
        pairs = self.pairs(root)
        self.check_order(root, pairs)
        return pairs

    def catalogue(self) -> dict[bytes, int]:
        """The places of the roots of all namespaces that have a name."""
        named = self.namespace(Page + 128)
        assert self.sealed(Page + 176) == 65535
        assert all(len(place) == 8 for place in named.values())
        records = self.places[Page + 128].values()
        assert all(self.read(place + 4, 2) == b"\0\0" for place in records)
        roots = {name: int.from_bytes(place, "little") for name, place in named.items()}
        numbers = {name: roots.pop(name) for name in list(roots) if name.startswith(b"\0id")}
        ids = {root: self.sealed(root + 48) for root in roots.values()}
        assert numbers == {b"\0id" + number.to_bytes(2): root for root, number in ids.items()}
        return roots

    def read_namespaces(self) -> None:
        """Those with names; of one that is being dropped, what is left."""
        for name, root in self.catalogue().items():
            self.use_units(root, 64, NODES, 22)
            pairs = self.namespace(root)
            last_id = self.sealed(Page + 184)
            assert 0 < self.sealed(root + 48) <= last_id and self.sealed(root + 56) == 0
            if name.startswith(DROPPED):
                assert name == DROPPED + self.sealed(root + 48).to_bytes(2)
                self.dropped.append(pairs)
            elif name == CODECS:
                self.dictionaries_in(pairs)
            else:
                assert name and name[0]
                self.namespaces[name.decode()] = pairs
                self.roots[name.decode()] = root

    def dictionaries_in(self, pairs: dict[bytes, bytes]) -> None:
        for key, value in pairs.items():
            coding, payload = value[:8], value[8:]
            if key.startswith(b"dictionary"):
                assert len(key) == 11 and key[10] > 0
                if not any(coding):
                    self.dictionaries[key[10]] = payload
            else:
                assert len(key) == 4 and key[:3] == b"key" and key[3] == coding[4] in (16, 17)

    # section 13

    def namespace_of(self, place: int) -> int:
        """The namespace's id that a record has; it may be of one that was dropped."""
        return int.from_bytes(self.read(place + 6, 2), "little")

    def limbo(self) -> list[bytes]:
        """Values of what is retired but was pinned, newest first."""
        count, page, values = self.sealed(Page + 96), self.sealed(Page + 88), []
        while count:
            place = self.header + page * Page
            self.use_run(place, Page, LIMBO)
            for index in range((count - 1) % 511, -1, -1):
                retired = self.sealed(place + 8 + index * 8) << 4
                values.append(self.record(retired, self.namespace_of(retired))[1])
                count -= 1
            page = self.sealed(place)
        assert page == 0
        return values

    def versions(self) -> dict[tuple[int, bytes, int], bytes]:
        """Values that readers of earlier moments saw, by namespace, key and the next commit."""
        tops = [self.sealed(Page + at) << 4 for at in (1664, 1672)]
        keys, deaths = (self.ordered_keys(top) if top else [] for top in tops)
        found, expected = {}, set()
        for whole in keys:
            namespace_id, (died, born) = (
                int.from_bytes(whole[:2]),
                struct.unpack(">QQ", whole[-21:-5]),
            )
            place = int.from_bytes(whole[-5:]) << 4
            key, value = self.record(place, namespace_id)
            escaped, hashed = key.replace(b"\0", b"\0\xff") + b"\0\1", hash64(*self.seed, key)
            by_hash = whole[2:-21] == hashed.to_bytes(8) + escaped
            assert by_hash or whole[2:-21] == escaped
            assert self.read(place + 8, 8) == born.to_bytes(8, "little") and born < died
            expected.add(whole[-21:-13] + whole[-5:] + bytes([by_hash]))
            found[namespace_id, key, died] = value
        assert len(found) == len(deaths) and expected == set(deaths)
        return found

    def everything(self) -> dict[bytes, bytes]:
        """The pairs of the default namespace; all space of the pool is accounted for."""
        for at in range(0, Page, 8):
            self.sealed(Page + at)
        pairs = self.namespace(Page + 192)
        self.read_namespaces()
        self.limbo()
        self.versions()
        self.check_codings({place for root in self.places.values() for place in root.values()})
        for root, values in [(Page + 192, pairs)] + [
            (self.roots[name], self.namespaces[name]) for name in self.roots
        ]:
            for key, place in self.places[root].items():
                values[key] = self.decoded(place, values[key])
        top = self.sealed(Page + 1680) << 4
        assert self.expiring == set(self.ordered_keys(top) if top else [])
        self.check_bins(self.check_runs())
        return pairs
