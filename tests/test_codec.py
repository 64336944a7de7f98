"""Codecs by themselves: what is encoded comes back, or is an error that says of which key."""

from __future__ import annotations

import builtins
import json
import pickle
import random
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import lz4.block
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmkv import _codec, _lz4, _workers
from pmkv._codec import Coder, Context
from pmkv._errors import CodecError

KEY = bytes(range(32))
RNG = random.Random(7)
WORDS = [f"{RNG.getrandbits(32):x}" for _ in range(300)]


def document(number: int) -> bytes:
    """JSON as many small values are, of about 100 bytes."""
    rng = random.Random(number)
    return json.dumps(
        {
            "id": number,
            "name": rng.choice(WORDS),
            "city": rng.choice(("Graz", "Wien", "Linz")),
            "active": rng.random() < 0.5,
            "score": round(rng.random() * 100, 2),
            "tags": rng.sample(("new", "old", "paid", "free"), 2),
        }
    ).encode()


def text(size: int, seed: int = 1) -> bytes:
    """Words, which shrink to about a half."""
    rng = random.Random(seed)
    made = " ".join(rng.choices(WORDS, k=size // 8 + 2)).encode()
    return made[:size]


SAMPLES = [document(number) for number in range(3000)]
DICTIONARIES = {1: _codec.train(SAMPLES, 16384), 2: text(40_000), 3: b"x"}


def load(number: int) -> bytes:
    return DICTIONARIES[number]


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten."""
    monkeypatch.setattr(_codec, "_stages", dict(_codec._stages))


@pytest.fixture(params=["functions of the library", "functions of the package"])
def lz4_way(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Either way to LZ4; a library without its functions is one that every system has."""
    native = request.param == "functions of the library"
    assert _lz4.load(lz4.block._block.__file__ if native else "libc.so.6") is native
    yield native
    assert _lz4.load(lz4.block._block.__file__)


def coder(codec: str, dictionary: int = 0, key: bytes | None = KEY, name: str = "") -> Coder:
    return Coder(Context(key, load), name, _codec.parse(codec), dictionary)


def stages_of(coding: int) -> str:
    return _codec.text_of((coding >> 32).to_bytes(4, "little"))


# ---- LZ4 ----------------------------------------------------------------------------------------

VALUES = [
    *(b"", b"a", b"ab" * 6, b"ab" * 7, b"\0" * 20, b"\0" * 100, *SAMPLES[:20]),
    *(text(size) for size in (100, 511, 512, 4096, 65_535, 65_536, 70_000, 1 << 20)),
    *(random.Random(3).randbytes(100), random.Random(3).randbytes(70_000), b"\0" * (6 << 20)),
]


@pytest.mark.parametrize("dictionary", [None, 1, 2, 3])
def test_either_way_to_lz4_reads_what_the_other_makes(dictionary: int | None) -> None:
    library, made = lz4.block._block.__file__, {}
    for path in (library, ""):
        _lz4.load(path)
        given_ = _lz4.Dictionary(load(dictionary), dictionary) if dictionary else None
        made[path] = _lz4.encode_many(VALUES, given_)
    for path in ("", library):
        _lz4.load(path)
        given_ = _lz4.Dictionary(load(dictionary), dictionary) if dictionary else None
        for blocks in made.values():
            for value, block in zip(VALUES, blocks, strict=True):
                assert block is None or len(block) + 8 < len(value)
                assert block is None or _lz4.decode(block, len(value), given_) == value
    assert [b is None for b in made[library]] == [b is None for b in made[""]]


def test_a_block_is_what_the_package_itself_makes(lz4_way: bool) -> None:
    for value in VALUES:
        block = _lz4.encode(value)
        assert block is None or lz4.block.decompress(block) == value
        if value:
            assert _lz4.decode(lz4.block.compress(value), len(value)) == value


def test_many_values_are_as_each_alone(lz4_way: bool) -> None:
    rng = random.Random(5)
    values = [text(rng.choice((1, 30, 700, 9000)), n) for n in range(3000)]
    assert _lz4.encode_many(values) == [_lz4.encode(value) for value in values]
    assert _lz4.encode_many([]) == []


def test_only_bytes_are_compressed(lz4_way: bool) -> None:
    for wrong in ([b"a", "text"], [bytearray(100)], [None]):
        with pytest.raises(TypeError):
            _lz4.encode_many(wrong)  # type: ignore[arg-type]


def test_a_size_that_cannot_be_is_refused_before_anything_is_made(lz4_way: bool) -> None:
    block = _lz4.encode(text(1000))
    assert block is not None
    for claimed in (999, 1001, 0, 0x7E000000, 0xFFFFFFFF):
        wrong = struct.pack("<I", claimed) + block[4:]
        with pytest.raises(ValueError):
            _lz4.decode(wrong, 1000)
        with pytest.raises(ValueError):
            _lz4.decode(wrong, claimed)
    for short in (b"", b"\0", block[:3], block[:4]):
        with pytest.raises(ValueError):
            _lz4.decode(short, None)
    with pytest.raises(ValueError, match="needs dictionary"):
        _lz4.decode(struct.pack("<H", 9) + block, 1000, _lz4.Dictionary(b"content", 8))


@settings(max_examples=300)
@given(
    data=st.binary(max_size=300),
    claimed=st.integers(0, 5000),
    number=st.sampled_from([None, 1, 3]),
)
def test_arbitrary_bytes_are_a_value_of_that_size_or_an_error(
    data: bytes, claimed: int, number: int | None
) -> None:
    dictionary = _lz4.Dictionary(load(number), number) if number else None
    head = struct.pack("<H", number) if number else b""
    try:
        found = _lz4.decode(head + struct.pack("<I", claimed) + data, claimed, dictionary)
    except ValueError:
        return
    assert len(found) == claimed


# ---- chains -------------------------------------------------------------------------------------

CHAINS = [
    *("lz4", "zstd", "aes", "chacha20", "lz4+aes", "zstd+chacha20", "aes+chacha20"),
    *("zlib", "xor", "xor+lz4", "zlib+aes+xor", "lz4+zstd+zlib+aes"),
]


def xor(data: bytes) -> bytearray:
    return bytearray(byte ^ 0x5A for byte in data)


def register() -> None:
    _codec.register_codec("zlib", 64, zlib.compress, zlib.decompress, compresses=True)
    _codec.register_codec("xor", 255, xor, xor)


@pytest.mark.parametrize("dictionary", [0, 1, 2, 3])
@pytest.mark.parametrize("codec", CHAINS)
def test_what_is_encoded_comes_back(codec: str, dictionary: int) -> None:
    register()
    rng = random.Random(9)

    @settings(max_examples=15, deadline=None)
    @given(st.lists(st.binary(max_size=200) | st.text(max_size=200).map(str.encode)), st.binary())
    def judge(values: list[bytes], key: bytes) -> None:
        values = [*values, *rng.sample(SAMPLES, 3), rng.randbytes(50)]
        keys = [key + bytes([n % 256]) for n in range(len(values))]
        one = coder(codec, dictionary, name="ns")
        for k, value, (coding, payload) in zip(
            keys, values, one.encode_many(keys, values), strict=True
        ):
            assert one.decode(coding, k, payload) == value
            assert coding & 0xFFFFFFFF == (len(value) if coding else 0)
            assert coding or payload == value
            again = one.with_stages(b"")  # of a namespace that has another codec by now
            assert again.decode(coding, k, memoryview(payload)) == value

    judge()


@pytest.mark.parametrize("codec", CHAINS)
@pytest.mark.parametrize("size", [0, 1, 12, 13, 100, 4096, 65_536, 100_000, 1 << 20])
def test_values_of_all_sizes_come_back(codec: str, size: int) -> None:
    register()
    for value in (text(size), bytes(size), random.Random(2).randbytes(size)):
        for dictionary in (0, 1):
            one = coder(codec, dictionary)
            coding, payload = one.encode(b"k", value)
            assert one.decode(coding, b"k", payload) == value


@pytest.mark.parametrize("codec", ["lz4", "zstd", "zlib", "lz4+zlib"])
def test_what_does_not_shrink_is_plain(codec: str) -> None:
    register()
    for value in (b"", b"short", random.Random(2).randbytes(1000)):
        assert coder(codec).encode(b"k", value) == (0, value)
    coding, payload = coder(codec).encode(b"k", text(1000))
    assert coding and len(payload) + 8 < 1000


def test_what_does_not_shrink_is_encrypted_all_the_same() -> None:
    for value in (b"", b"short", random.Random(2).randbytes(1000)):
        coding, payload = coder("lz4+aes").encode(b"k", value)
        assert stages_of(coding) == "aes" and len(payload) == len(value) + 28
        assert len(value) < 5 or value not in payload
    assert stages_of(coder("lz4+aes").encode(b"k", text(1000))[0]) == "lz4+aes"
    assert stages_of(coder("lz4+aes", 1).encode(b"k", SAMPLES[0])[0]) == "lz4-dict+aes"


def test_the_same_value_is_never_encrypted_to_the_same() -> None:
    one = coder("aes")
    assert len({one.encode(b"k", b"value")[1] for _ in range(1000)}) == 1000


def test_dictionaries_help_small_values() -> None:
    def ratio(codec: str, dictionary: int) -> float:
        made = coder(codec, dictionary).encode_many(SAMPLES, SAMPLES)
        return sum(map(len, SAMPLES)) / sum(len(payload) for _, payload in made)

    assert ratio("lz4", 1) > 1.5 * ratio("lz4", 0)
    assert ratio("zstd", 1) > 1.5 * ratio("zstd", 0)


@pytest.mark.parametrize("codec", ["lz4", "zstd", "zlib", "xor+lz4"])
def test_one_value_is_encoded_as_among_many(codec: str) -> None:
    register()
    values = [text(size, size) for size in range(0, 3000, 7)]
    one = coder(codec)
    assert [one.encode(b"k", value) for value in values] == one.encode_many(values, values)


def test_a_coding_is_as_the_format_says() -> None:
    """With nothing of pmkv: the coding's bytes, and what was tied to them."""
    aead = pytest.importorskip("cryptography.hazmat.primitives.ciphers.aead")
    value = text(1000)
    coding, payload = coder("lz4+aes", name="näme").encode(b"key", value)
    assert coding.to_bytes(8, "little") == struct.pack("<I4B", 1000, 1, 16, 0, 0)
    tied = struct.pack("<I", 5) + "näme".encode() + coding.to_bytes(8, "little") + b"key"
    block = aead.AESGCM(KEY).decrypt(payload[:12], payload[12:], tied)
    assert lz4.block.decompress(block) == value
    coding, payload = coder("lz4", 2).encode(b"key", value)
    assert coding.to_bytes(8, "little") == struct.pack("<I4B", 1000, 3, 0, 0, 0)
    assert payload[:2] == struct.pack("<H", 2)
    assert lz4.block.decompress(payload[2:], dict=DICTIONARIES[2]) == value


def test_values_are_coded_while_the_interpreter_ends() -> None:
    script = """
import atexit
from pmkv import _codec
coder = _codec.Coder(_codec.Context(), "", b"\2")
def encode():
    values = [b"%d words and words " % n * 300 for n in range(300)]
    made = coder.encode_many(values, values)
    print(all(coder.decode(m[0], v, m[1]) == v for m, v in zip(made, values)))
atexit.register(encode)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "True\n", done.stderr


# ---- damage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dictionary", [0, 1])
@pytest.mark.parametrize("codec", ["lz4", "zstd", "aes", "chacha20", "lz4+aes", "zstd+chacha20"])
def test_a_changed_byte_is_an_error_or_a_value_of_the_same_size(
    codec: str, dictionary: int
) -> None:
    value = SAMPLES[5] + SAMPLES[6] + SAMPLES[5]
    one = coder(codec, dictionary)
    coding, payload = one.encode(b"k", value)
    for index in range(len(payload)):
        for bit in (1, 0x80, 0xFF):
            wrong = bytearray(payload)
            wrong[index] ^= bit
            try:
                found = one.decode(coding, b"k", bytes(wrong))
            except CodecError as error:
                assert "b'k'" in str(error)
                continue
            assert len(found) == len(value)
            assert "+" not in codec and codec in ("lz4", "zstd")  # the pool's checksum is for these
    for size in range(len(payload)):
        with pytest.raises(CodecError, match="b'k'"):
            one.decode(coding, b"k", payload[:size])
    with pytest.raises(CodecError, match="b'k'"):
        one.decode(coding, b"k", payload + b"\0")


@pytest.mark.parametrize("codec", ["lz4", "zstd", "aes", "lz4+aes", "xor", "zlib"])
def test_another_coding_is_an_error(codec: str) -> None:
    register()
    one = coder(codec)
    coding, payload = one.encode(b"k", text(500))
    for wrong in (
        *(coding + 1, coding ^ 0xFFFFFFFF, coding << 8 & (1 << 64) - 1 | coding & 0xFFFFFFFF),
        *(coding | 200 << 56, coding ^ 255 << 32, coding & 0xFFFFFFFF),
    ):
        with pytest.raises(CodecError, match="b'k'"):
            one.decode(wrong, b"k", payload)


@pytest.mark.parametrize("codec", ["aes", "chacha20", "lz4+aes"])
def test_a_value_that_was_moved_does_not_decrypt(codec: str) -> None:
    coding, payload = coder(codec, name="a").encode(b"k", text(500))
    for name, key in (("", b"k"), ("b", b"k"), ("a", b"K"), ("a", b""), ("ak", b"")):
        with pytest.raises(CodecError, match="another key, or is damaged"):
            coder(codec, name=name).decode(coding, key, payload)


def test_a_wrong_key_is_an_error_that_does_not_show_it() -> None:
    coding, payload = coder("aes").encode(b"k", b"value")
    secret = b"S3cr3t__" * 4
    wrong = coder("aes", key=secret)
    with pytest.raises(CodecError, match=r"b'k'.*another key") as caught:
        wrong.decode(coding, b"k", payload)
    for shown in (str(caught.value), repr(wrong), repr(wrong.context), repr(vars(_codec))):
        assert "S3cr3t" not in shown
    for pickled in (wrong, wrong.context):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(pickled)


def test_a_missing_key_is_an_error_of_that_value() -> None:
    coding, payload = coder("aes").encode(b"k", b"value")
    none = coder("aes", key=None)
    with pytest.raises(CodecError, match=r"b'k'.*key="):
        none.decode(coding, b"k", payload)
    with pytest.raises(CodecError, match=r"b'k'.*key="):
        none.encode(b"k", b"value")
    with pytest.raises(CodecError, match="key="):
        none.check()
    coder("aes").check()


def test_a_key_has_a_length_and_is_not_text() -> None:
    for size in (16, 24, 32):
        one = coder("aes", key=bytes(size))
        assert one.decode(*swapped(one.encode(b"k", b"v"))) == b"v"
    for size in (0, 1, 31, 33):
        with pytest.raises(ValueError, match="32 bytes"):
            Context(bytes(size))
    with pytest.raises(TypeError, match=r"scrypt"):
        Context("password")
    with pytest.raises(TypeError, match="bytes, not int"):
        Context(32)
    with pytest.raises(CodecError, match="32 bytes"):
        coder("chacha20", key=bytes(16)).check()


def swapped(encoded: tuple[int, bytes]) -> tuple[int, bytes, bytes]:
    return encoded[0], b"k", encoded[1]


def test_a_zstd_frame_is_not_believed_how_much_it_makes() -> None:
    zstandard = pytest.importorskip("zstandard")
    one = coder("zstd")
    for raw, size in ((1 << 30, 1 << 20), (1 << 30, 1 << 30)):
        frame = bytearray(zstandard.ZstdCompressor(level=1).compress(bytes(1 << 20)))
        frame[5:9] = struct.pack("<I", size)
        with pytest.raises(CodecError):
            one.decode(raw | 2 << 32, b"k", bytes(frame))
    unknown = zstandard.ZstdCompressor(write_content_size=False).compress(text(1000))
    with pytest.raises(CodecError):
        one.decode(1000 | 2 << 32, b"k", unknown)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_a_dictionary_that_is_missing_or_none_is_an_error(codec: str) -> None:
    coding, payload = coder(codec, 1).encode(b"k", SAMPLES[0])

    def broken(number: int) -> bytes:
        raise OSError("the medium is gone")

    for context in (Context(), Context(load=broken), Context(load=lambda number: b"")):
        with pytest.raises(CodecError, match="b'k'"):
            Coder(context, "", b"").decode(coding, b"k", payload)
    magic = b"\x37\xa4\x30\xec" + bytes(100)
    crafted = Coder(Context(load=lambda number: magic), "", _codec.parse(codec), 1)
    with pytest.raises(CodecError, match="b'k'"):
        crafted.decode(coding, b"k", payload)


# ---- the registry -------------------------------------------------------------------------------


def test_a_codec_of_ones_own_keeps_its_name_and_number() -> None:
    register()
    register()  # the same once more
    for name, number, *functions in (
        *(("zlib", 64, zlib.compress, xor), ("zlib", 65, zlib.compress, zlib.decompress)),
        *(("other", 64, zlib.compress, zlib.decompress), ("xor", 254, xor, xor)),
    ):
        with pytest.raises(ValueError, match="is not the one"):
            _codec.register_codec(name, number, *functions, compresses=name == "zlib")
    with pytest.raises(ValueError, match="is not the one"):
        _codec.register_codec("zlib", 64, zlib.compress, zlib.decompress)
    assert _codec.text_of(_codec.parse("zlib+xor")) == "zlib+xor"


@pytest.mark.parametrize(
    ("name", "number", "function", "error"),
    [
        *[(name, 70, xor, ValueError) for name in ("", "a b", "a+b", "é", "x" * 33, "plain", 5)],
        *[(name, 70, xor, ValueError) for name in ("lz4", "zstd", "aes", "lz4-dict")],
        *[("mine", number, xor, ValueError) for number in (0, 1, 63, 256, -1, "70", 70.0, True)],
        ("mine", 70, None, TypeError),
    ],
)
def test_a_name_or_number_that_cannot_be_is_refused(
    name: Any, number: Any, function: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        _codec.register_codec(name, number, function, xor)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("lz5", "aes, chacha20, lz4, xor, zlib, zstd"),
        *(("", "''"), ("lz4+", "''"), ("LZ4", "'LZ4'"), ("lz4 + aes", "'lz4 '"), (5, "text")),
        *(("lz4-dict", "none"), ("plain+lz4", "none"), ("lz4+lz4", "twice")),
        *(("aes+lz4", "compress first"), ("lz4+aes+zstd", "compress first")),
        ("lz4+zstd+zlib+xor+aes", "5 stages"),
    ],
)
def test_a_text_that_names_no_codec_is_refused(wrong: Any, says: str) -> None:
    register()
    with pytest.raises(ValueError) as caught:
        _codec.parse(wrong)
    assert says in str(caught.value)


def test_texts_and_stages_are_the_same_thing() -> None:
    for written, stages in (("lz4", b"\1"), ("zstd+aes", b"\2\x10"), ("plain", b"")):
        assert _codec.parse(written) == stages and _codec.text_of(stages + b"\0") == written
    assert _codec.parse(None) == b""
    assert _codec.text_of(b"\1\xc8") == "lz4+codec 200"


def test_a_codec_that_is_not_registered_is_an_error_that_says_so() -> None:
    one = Coder(Context(), "", b"\xc8")
    for call in (one.check, lambda: one.encode(b"k", b"v")):
        with pytest.raises(CodecError, match=r"codec 200.*register_codec"):
            call()
    with pytest.raises(CodecError, match=r"b'k'.*codec 200.*register_codec"):
        one.decode(1 | 200 << 32, b"k", b"x")


def test_a_codec_registered_late_does_not_compress_behind_encryption() -> None:
    one = Coder(Context(KEY), "", bytes((_codec.AES, 64)))
    register()
    for call in (one.check, lambda: one.encode(b"k", bytes(100))):
        with pytest.raises(CodecError, match="compress first"):
            call()


def test_what_a_function_of_ones_own_raises_names_key_and_codec() -> None:
    def fails(data: bytes) -> bytes:
        raise KeyError("inner")

    for number, function in ((70, fails), (71, lambda data: "text"), (72, lambda data: 5)):
        name = f"bad{number}"
        _codec.register_codec(name, number, function, function)
        one = coder(name)
        with pytest.raises(CodecError, match=rf"b'k'.*{name}"):
            one.encode(b"k", b"value")
        with pytest.raises(CodecError, match=rf"b'k'.*{name}") as caught:
            one.decode(5 | number << 32, b"k", b"value")
    _codec.register_codec("short", 73, bytes, lambda data: data[1:])
    one = coder("short")
    with pytest.raises(CodecError, match="4 bytes, not 5"):
        one.decode(*swapped(one.encode(b"k", b"value")))
    coding_of_first = 5 | 70 << 32
    with pytest.raises(CodecError) as caught:
        coder("lz4").decode(coding_of_first, b"k", b"value")
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("codec", "package", "extra"),
    [("zstd", "zstandard", "zstd"), ("aes", "cryptography", "encryption")],
)
def test_a_missing_package_is_an_error_that_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, codec: str, package: str, extra: str
) -> None:
    coding, payload = coder(codec).encode(b"k", text(1000))
    original = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return original(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setitem(_codec._stages, _codec.ZSTD, _codec._Zstd())  # that has made nothing yet
    one = coder(codec)
    advice = rf"pip install 'pmkv\[{extra}\]'"
    calls: list[Callable[[], Any]] = [one.check, lambda: one.encode(b"k", text(1000))]
    calls.append(lambda: one.decode(coding, b"k", payload))
    if codec == "zstd":
        calls.append(lambda: _codec.train(SAMPLES, 4096))
    for call in calls:
        with pytest.raises(CodecError, match=advice):
            call()


def test_too_few_samples_are_an_error_that_says_what_to_do() -> None:
    for samples in ([], [b"one"], [b""] * 100, SAMPLES[:3]):
        with pytest.raises(CodecError, match="more of them"):
            _codec.train(samples, 16384)
    with pytest.raises(ValueError, match="256"):
        _codec.train(SAMPLES, 255)


# ---- threads and processes ----------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["lz4", "zstd", "lz4+aes"])
@pytest.mark.parametrize("dictionary", [0, 1])
def test_threads_share_a_coder(codec: str, dictionary: int) -> None:
    one = coder(codec, dictionary)
    values = [text(2000, n) for n in range(300)]
    wrong: list[Any] = []

    def work() -> None:
        try:
            for _ in range(5):
                for value, made in zip(values, one.encode_many(values, values), strict=True):
                    if one.decode(made[0], value, made[1]) != value:
                        wrong.append(value)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def lengths(values: list[bytes]) -> list[int]:
    return list(map(len, values))


def test_pieces_are_put_together_in_their_order() -> None:
    rng = random.Random(1)
    for count in (0, 1, 2, 100):
        values = [bytes(rng.choice((0, 1, 5000))) for _ in range(count)]
        for threads in (1, 2, 4):
            assert _workers.run(lengths, values, 1000, threads=threads) == lengths(values)


def test_what_a_piece_raises_is_raised() -> None:
    def fails(values: list[bytes]) -> list[int]:
        if b"bad" in values:
            raise KeyError("bad")
        return lengths(values)

    for at in (0, 50, 99):
        values = [b"good"] * 100
        values[at] = b"bad"
        with pytest.raises(KeyError):
            _workers.run(fails, values, 8, threads=4)


def round_trip() -> bool:
    one = coder("zstd")
    values = [text(4000, n) for n in range(200)]
    return all(
        one.decode(made[0], value, made[1]) == value
        for value, made in zip(values, one.encode_many(values, values), strict=True)
    )


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_has_threads_of_its_own(in_child: Callable[..., Any], method: str) -> None:
    assert round_trip()
    assert in_child(round_trip, method=method)
    assert round_trip()
