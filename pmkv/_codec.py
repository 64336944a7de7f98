"""Codecs: what makes the stored bytes of a value, and the value of these again.

A codec is a chain of stages: "lz4+aes" compresses, then encrypts. A record says in a word of its
own, the *coding*, how long its value is and which stages it went through, so a pool can be read
whatever its codec is by now, or says what is missing. Knows nothing of pools: a Coder is told where
it stands (the namespace's name), and its Context what only the user has, the key.

    coding       size of the value, u32 | numbers of its stages, 4 bytes, in the order of encoding

1. A size that stored bytes claim is never trusted: it is compared with what the coding says, and
   with what so many bytes can make, before anything of that size is made.
2. The encryption's key is in no text, no pickle and no exception.
3. Nothing that compresses comes behind encryption: so the coding is known when it is authenticated.
4. Threads: Context and Coder may be used by several at once.
"""

from __future__ import annotations

import functools
import os
import re
import struct
import threading
from collections.abc import Callable
from typing import Any, Final, NoReturn

from pmkv import _lz4, _workers
from pmkv._errors import CodecError

Data = bytes | memoryview

LZ4, ZSTD, LZ4_DICTIONARY, ZSTD_DICTIONARY = 1, 2, 3, 4
AES, CHACHA20 = 16, 17
FIRST_OWN, LAST_OWN = 64, 255
MOST_STAGES: Final = 4
SAVED: Final = 8  # the coding's own size: what a stage that compresses must save, or it is left out
MAX_PAYLOAD: Final = 0xFFFFF000
MOST_DICTIONARY: Final = 1 << 20  # bytes

_NUMBER: Final = struct.Struct("<H")
_SIZE: Final = struct.Struct("<I")
_CODING: Final = struct.Struct("<Q")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")
# Pieces from which on another thread gains more than asking it costs.
_LZ4_PIECE: Final = 128 << 10
_LZ4_MEAN: Final = 1 << 10  # for smaller values, making objects of the blocks is most of the work
_ZSTD_PIECE: Final = 64 << 10


def _coding(raw_size: int, stages: bytes) -> int:
    return raw_size | int.from_bytes(stages, "little") << 32


def _made_back(chain: int) -> tuple[tuple[int, bool], ...]:
    """Of the upper half of a coding: its stages from the last one back, and which is the first."""
    stages = chain.to_bytes(MOST_STAGES, "little").rstrip(b"\0")
    if 0 in stages or not stages:
        raise CodecError(f"its coding is none: stages {stages.hex(' ')}")
    return tuple((stages[index], index == 0) for index in reversed(range(len(stages))))


_back: Final = functools.lru_cache(maxsize=64)(_made_back)


class Batch:
    """Values that go through the stages of a codec together."""

    def __init__(self, coder: Coder, keys: list[bytes], values: list[bytes]) -> None:
        self.coder, self.keys, self.values = coder, keys, values
        self.data = list(values)  # what the stages so far have made of them
        self.used = [b""] * len(values)  # numbers of these stages
        self.rest = b""  # of those to come

    def codings(self, number: int) -> list[int]:
        """Of each value, when a stage is next behind which all are used."""
        behind = bytes([number]) + self.rest
        return [
            _coding(len(value), used + behind)
            for value, used in zip(self.values, self.used, strict=True)
        ]

    def take(self, number: int, made: list[bytes | None]) -> None:
        """The results of a stage; None: not used for that value."""
        for index, result in enumerate(made):
            if result is None:
                continue
            if len(result) > MAX_PAYLOAD:
                wrong = f"its codec makes {len(result)} bytes of it: too many"
                _raise_named(self.keys[index], CodecError(wrong))
            self.data[index] = result
            self.used[index] += bytes([number])

    def results(self) -> list[tuple[int, bytes]]:
        """Coding and payload of each."""
        return [
            (_coding(len(value), used) if used else 0, data)
            for value, used, data in zip(self.values, self.used, self.data, strict=True)
        ]


# ---- stages -------------------------------------------------------------------------------------


class Stage:
    """One step. Errors are CodecErrors that say only what is wrong; the Coder says of which key."""

    number: int
    name: str
    compresses = True
    encrypts = False

    def check(self, context: Context) -> None:
        """Raises what encode() and decode() would, if something is missing."""

    def encode(self, coder: Coder, key: bytes, coding: int, data: bytes) -> bytes | None:
        """What is stored; None: it does not shrink."""
        raise NotImplementedError

    def encode_many(self, batch: Batch) -> list[bytes | None]:
        """As encode() of each value of the batch."""
        codings = batch.codings(self.number)
        return [
            self._encode_named(batch.coder, key, coding, data)
            for key, coding, data in zip(batch.keys, codings, batch.data, strict=True)
        ]

    def _encode_named(self, coder: Coder, key: bytes, coding: int, data: bytes) -> bytes | None:
        try:
            return self.encode(coder, key, coding, data)
        except CodecError as error:
            _raise_named(key, error)

    def decode(self, coder: Coder, key: bytes, coding: int, data: Data, size: int | None) -> bytes:
        """What was encoded; of `size` bytes, if that is known."""
        raise NotImplementedError


def _raise_named(key: bytes, error: CodecError) -> NoReturn:
    raise CodecError(f"the value of key {key!r:.80}: {error}") from error.__cause__


def _shrunk(made: bytes, data: bytes) -> bytes | None:
    return made if len(made) + SAVED < len(data) else None


class _Lz4(Stage):
    number, name = LZ4, "lz4"

    def encode_many(self, batch: Batch) -> list[bytes | None]:
        return _workers.run(_lz4.encode_many, batch.data, _LZ4_PIECE, _LZ4_MEAN)

    def decode(self, coder: Coder, key: bytes, coding: int, data: Data, size: int | None) -> bytes:
        return _lz4_decoded(data, size, None)


def _lz4_decoded(data: Data, raw_size: int | None, dictionary: _lz4.Dictionary | None) -> bytes:
    try:
        return _lz4.decode(data, raw_size, dictionary)
    except ValueError as error:
        raise CodecError(str(error)) from None


class _Zstd(Stage):
    number, name = ZSTD, "zstd"

    @functools.cached_property
    def frames(self) -> _Frames:
        """Without a dictionary; made when first needed."""
        return _Frames()

    def check(self, context: Context) -> None:
        _zstandard()

    def encode_many(self, batch: Batch) -> list[bytes | None]:
        return _workers.run(self.frames.encode_many, batch.data, _ZSTD_PIECE)

    def decode(self, coder: Coder, key: bytes, coding: int, data: Data, size: int | None) -> bytes:
        return self.frames.decode(data, size)


class _WithDictionary(Stage):
    """Of a stage that compresses, with a dictionary of the pool: its number stands in front."""

    def __init__(self, number: int, plain: Stage) -> None:
        self.number, self.name, self.plain = number, f"{plain.name}-dict", plain

    def check(self, context: Context) -> None:
        self.plain.check(context)

    def encode_many(self, batch: Batch) -> list[bytes | None]:
        dictionary = batch.coder.context.dictionary(batch.coder.dictionary)
        if self.number == LZ4_DICTIONARY:
            encode = functools.partial(_lz4.encode_many, dictionary=dictionary.lz4)
            return _workers.run(encode, batch.data, _LZ4_PIECE, _LZ4_MEAN)
        return _workers.run(dictionary.zstd.encode_many, batch.data, _ZSTD_PIECE)

    def decode(self, coder: Coder, key: bytes, coding: int, data: Data, size: int | None) -> bytes:
        if len(data) < _NUMBER.size:
            raise CodecError("its bytes are not whole: the dictionary's number is missing")
        dictionary = coder.context.dictionary(_NUMBER.unpack_from(data)[0])
        if self.number == LZ4_DICTIONARY:
            return _lz4_decoded(data, size, dictionary.lz4)
        return dictionary.zstd.decode(data, size)


class _Cipher(Stage):
    """Authenticated encryption: nonce 12 | ciphertext and tag 16."""

    compresses = False
    encrypts = True
    NONCE = 12

    def __init__(self, number: int, name: str) -> None:
        self.number, self.name = number, name

    def check(self, context: Context) -> None:
        context.cipher(self.number)

    def encode(self, coder: Coder, key: bytes, coding: int, data: bytes) -> bytes:
        nonce = os.urandom(self.NONCE)
        cipher = coder.context.cipher(self.number)
        try:
            return nonce + bytes(cipher.encrypt(nonce, data, _associated(coder, key, coding)))
        except OverflowError:
            raise CodecError(f"{self.name} takes less than 2 GiB, not {len(data)} bytes") from None

    def decode(self, coder: Coder, key: bytes, coding: int, data: Data, size: int | None) -> bytes:
        cipher = coder.context.cipher(self.number)
        nonce, rest = bytes(data[: self.NONCE]), bytes(data[self.NONCE :])
        try:
            return bytes(cipher.decrypt(nonce, rest, _associated(coder, key, coding)))
        except _refusals():
            raise CodecError(
                f"{self.name} does not decrypt it: it was written with another key, or is damaged"
            ) from None


def _associated(coder: Coder, key: bytes, coding: int) -> bytes:
    """What a value is tied to. Behind a length: no two places have the same bytes."""
    name = coder.name
    return b"".join((_SIZE.pack(len(name)), name, _CODING.pack(coding), key))


class Own(Stage):
    """A user's two functions."""

    def __init__(
        self,
        name: str,
        number: int,
        encode: Callable[[bytes], Any],
        decode: Callable[[bytes], Any],
        compresses: bool,
    ) -> None:
        self.name, self.number, self.compresses = name, number, compresses
        self.functions = (encode, decode)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own) and self.compared() == other.compared()

    __hash__ = None  # type: ignore[assignment]

    def compared(self) -> tuple[Any, ...]:
        """What makes two of them the same."""
        return (self.name, self.number, self.compresses, self.functions)

    def encode(self, coder: Coder, key: bytes, coding: int, data: bytes) -> bytes | None:
        made = self._call(0, data)
        return _shrunk(made, data) if self.compresses else made

    def decode(self, coder: Coder, key: bytes, coding: int, data: Data, size: int | None) -> bytes:
        return self._call(1, bytes(data))

    def _call(self, which: int, data: bytes) -> bytes:
        what = ("encode", "decode")[which]
        try:
            made = self.functions[which](data)
        except Exception as error:
            raise CodecError(
                f"{what} of codec {self.name!r} has failed: {type(error).__name__}: {error}"
            ) from error
        try:
            return made if type(made) is bytes else bytes(memoryview(made))
        except TypeError:
            raise CodecError(
                f"{what} of codec {self.name!r} gave {type(made).__name__}, not bytes"
            ) from None


# ---- zstd ---------------------------------------------------------------------------------------


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise CodecError("zstd needs another package: pip install 'pmkv[zstd]'") from error
    return zstandard


class _Frames:
    """zstd frames, with one dictionary or none. Its contexts serve one thread each."""

    LEVEL = 3
    MAGIC = b"\x28\xb5\x2f\xfd"
    EXPANSION = 1 << 15  # a block has 4 bytes or more, and makes 128 KiB at most

    def __init__(self, content: bytes | None = None, number: int = 0) -> None:
        self.zstandard = _zstandard()
        self.head = b"" if content is None else _NUMBER.pack(number)
        self.dictionary = None if content is None else self._prepared(content)
        self.local = threading.local()

    def _prepared(self, content: bytes) -> Any:
        try:
            dictionary = self.zstandard.ZstdCompressionDict(content)
            dictionary.precompute_compress(level=self.LEVEL)
        except self.zstandard.ZstdError as error:
            raise CodecError(f"its dictionary is none: {error}") from None
        return dictionary

    def _compressor(self) -> Any:
        found = getattr(self.local, "compressor", None)
        if found is None:
            found = self.local.compressor = self.zstandard.ZstdCompressor(
                level=self.LEVEL,
                dict_data=self.dictionary,
                write_content_size=True,
                write_checksum=False,  # the pool has its own
                write_dict_id=False,
            )
        return found

    def _decompressor(self) -> Any:
        found = getattr(self.local, "decompressor", None)
        if found is None:
            found = self.zstandard.ZstdDecompressor(dict_data=self.dictionary)
            self.local.decompressor = found
        return found

    def encode_many(self, values: list[bytes]) -> list[bytes | None]:
        """A frame of each, or None where it does not shrink."""
        compress, head = self._compressor().compress, self.head
        return [_shrunk(head + compress(value), value) for value in values]

    def decode(self, data: Data, raw_size: int | None) -> bytes:
        """The value; it is made only if the frame says its size, and that can be."""
        frame = bytes(data[len(self.head) :])
        try:
            size = self._size(frame)
            if raw_size is not None and size != raw_size:
                raise CodecError(f"a zstd frame makes {size} bytes, not {raw_size}")
            return bytes(
                self._decompressor().decompress(frame, max_output_size=size, allow_extra_data=False)
            )
        except (self.zstandard.ZstdError, ValueError, MemoryError) as error:
            raise CodecError(f"a zstd frame is damaged: {error}") from None

    def _size(self, frame: bytes) -> int:
        if frame[: len(self.MAGIC)] != self.MAGIC:
            raise CodecError("it is not a zstd frame")
        size = int(self.zstandard.get_frame_parameters(frame).content_size)
        if size > min(len(frame) * self.EXPANSION, MAX_PAYLOAD):
            raise CodecError(f"a zstd frame of {len(frame)} bytes cannot make {size}")
        return size


class Prepared:
    """A dictionary as the compressors want it; each form is made when it is first needed."""

    def __init__(self, content: bytes, number: int) -> None:
        self.content, self.number = content, number

    @functools.cached_property
    def lz4(self) -> _lz4.Dictionary:
        """For lz4, to which what zstd keeps in front of the content is only some bytes more."""
        return _lz4.Dictionary(self.content, self.number)

    @functools.cached_property
    def zstd(self) -> _Frames:
        """For zstd."""
        return _Frames(self.content, self.number)


def train(samples: list[bytes], size: int) -> bytes:
    """A dictionary of at most `size` bytes for values such as these, for lz4 and zstd alike."""
    zstandard = _zstandard()
    if not (type(size) is int and 256 <= size <= MOST_DICTIONARY):
        raise ValueError(f"the size of a dictionary is 256 bytes to 1 MiB, not {size!r:.60}")
    try:
        return bytes(zstandard.train_dictionary(size, samples).as_bytes())
    except (zstandard.ZstdError, ValueError) as error:
        raise CodecError(
            f"no dictionary of {size} bytes can be trained on {len(samples)} values of "
            f"{sum(map(len, samples))} bytes in all ({error}): it needs more of them, about a "
            "hundred times its size, or ask for a smaller one"
        ) from None


# ---- encryption ---------------------------------------------------------------------------------

_KEY_SIZES: Final = {AES: (16, 24, 32), CHACHA20: (32,)}


def _ciphers() -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers import aead
    except ImportError as error:
        raise CodecError("encryption needs another package: pip install 'pmkv[encryption]'") from (
            error
        )
    return aead


def _refusals() -> tuple[type[Exception], ...]:
    """What decrypting may raise: a tag that does not fit, or too few bytes for one."""
    from cryptography.exceptions import InvalidTag

    return (InvalidTag, ValueError, OverflowError)


def _checked_key(key: Any) -> bytes | None:
    if isinstance(key, str):
        raise TypeError(
            "a key is bytes, not text: secrets.token_bytes(32) makes one, "
            "hashlib.scrypt(password, salt=..., n=2**14, r=8, p=1, dklen=32) derives one"
        )
    if key is None:
        return None
    try:
        found = bytes(memoryview(key))
    except TypeError:
        raise TypeError(f"a key is bytes, not {type(key).__name__}") from None
    if len(found) not in _KEY_SIZES[AES]:
        raise ValueError(
            f"a key has 32 bytes (or 16 or 24, for aes), not {len(found)}: "
            "secrets.token_bytes(32) makes one"
        )
    return found


class Context:
    """What all values of an open pool share: the key, and where its dictionaries are."""

    __slots__ = ("__weakref__", "_ciphers", "_key", "dictionary", "note")

    def __init__(self, key: Any = None, load: Callable[[int], bytes] | None = None) -> None:
        self._key = _checked_key(key)
        self._ciphers: dict[int, Any] = {}
        self.dictionary = functools.lru_cache(maxsize=16)(functools.partial(_prepare, load))
        self.note: Callable[[Any, Coder], None] = _ignore  # before a table's values go that way

    def __repr__(self) -> str:
        return f"<pmkv._codec.Context with{'' if self._key else 'out'} a key>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled; give it again when the pool is opened")

    def cipher(self, number: int) -> Any:
        """What encrypts with the key. CodecError if it, or the package, is missing."""
        found = self._ciphers.get(number)
        return found if found is not None else self._cipher(number)

    def _cipher(self, number: int) -> Any:
        name = text_of(bytes([number]))
        if self._key is None:
            raise CodecError(f"{name} needs the key: pmkv.open(path, key=...)")
        if len(self._key) not in _KEY_SIZES[number]:
            raise CodecError(f"{name} needs a key of 32 bytes; the one given has {len(self._key)}")
        aead = _ciphers()
        made = (aead.AESGCM if number == AES else aead.ChaCha20Poly1305)(self._key)
        self._ciphers[number] = made
        return made


def _ignore(table: Any, coder: Coder) -> None:
    """There is no pool to note in what a codec needs."""


def _prepare(load: Callable[[int], bytes] | None, number: int) -> Prepared:
    if load is None or not number:
        raise CodecError(f"it needs dictionary {number}, and there is none")
    try:
        return Prepared(bytes(load(number)), number)
    except Exception as error:
        raise CodecError(f"its dictionary {number} cannot be read: {error}") from error


# ---- names --------------------------------------------------------------------------------------

WITH_DICTIONARY: Final = {LZ4: LZ4_DICTIONARY, ZSTD: ZSTD_DICTIONARY}
_BUILT_IN: Final[tuple[Stage, ...]] = (
    *(_Lz4(), _Zstd(), _Cipher(AES, "aes"), _Cipher(CHACHA20, "chacha20")),
    *(_WithDictionary(LZ4_DICTIONARY, _Lz4()), _WithDictionary(ZSTD_DICTIONARY, _Zstd())),
)
_stages: Final[dict[int, Stage]] = {stage.number: stage for stage in _BUILT_IN}
_lock: Final = threading.Lock()


def register_codec(
    name: str,
    number: int,
    encode: Callable[[bytes], Any],
    decode: Callable[[bytes], Any],
    *,
    compresses: bool = False,
) -> None:
    """Makes a codec of two functions known, in this process, by a name and a number.

    The number, 64 to 255, is stored with each value: it must mean the same for as long as there are
    such values. Both functions take and return bytes. compresses=True: a result that is not smaller
    than what it is made of is not used. Raises ValueError if name or number is another codec's.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == "plain":
        raise ValueError(
            f"the name of a codec has 1 to 32 of A-Z a-z 0-9 - _, and is not 'plain'; not {name!r}"
        )
    if type(number) is not int or not FIRST_OWN <= number <= LAST_OWN:
        raise ValueError(
            f"the number of a codec is {FIRST_OWN} to {LAST_OWN}; others are pmkv's: {number!r}"
        )
    if not callable(encode) or not callable(decode):
        raise TypeError("encode and decode of a codec are functions: bytes -> bytes")
    made = Own(name, number, encode, decode, bool(compresses))
    with _lock:
        for known in _stages.values():
            if (known.name == name or known.number == number) and known != made:
                raise ValueError(
                    f"codec {name!r}, {number} is not the one that is known as "
                    f"{known.name!r}, {known.number}; take another name and number"
                )
        _stages.setdefault(number, made)


def _stage(number: int) -> Stage:
    found = _stages.get(number)
    if found is None:
        raise CodecError(
            f"it needs codec {number}, which is not known here: pmkv.register_codec(...) it first"
        )
    return found


def text_of(stages: bytes) -> str:
    """The text of a chain of stages: "lz4+aes"; "plain" if there is none."""
    names = [
        _stages[number].name if number in _stages else f"codec {number}"
        for number in stages
        if number
    ]
    return "+".join(names) or "plain"


def parse(text: str | None) -> bytes:
    """The stages that a text names; ValueError if it cannot be."""
    if text is None or text == "plain":
        return b""
    if not isinstance(text, str):
        raise ValueError(f"codec is a text as 'lz4' or 'lz4+aes', or None; not {text!r:.60}")
    with _lock:
        by_name = {
            stage.name: stage.number
            for stage in _stages.values()
            if stage.number not in WITH_DICTIONARY.values()
        }
    names = text.split("+")
    for name in names:
        if name not in by_name:
            known = ", ".join(sorted(by_name))
            raise ValueError(f"codec {text!r:.80}: {name!r:.40} is none; there are: {known}, plain")
    stages = bytes(by_name[name] for name in names)
    wrong = fault_of(stages)
    if wrong:
        raise ValueError(f"codec {text!r:.80}: {wrong}")
    return stages


def fault_of(stages: bytes) -> str:
    """What keeps a chain from being a codec for new values; "" if nothing does."""
    if len(stages) > MOST_STAGES:
        return f"it has {len(stages)} stages, and {MOST_STAGES} is the most"
    if len(set(stages)) < len(stages):
        return "it names a stage twice"
    encrypted = False
    for number in stages:
        stage = _stages.get(number)
        if stage is not None and stage.compresses and encrypted:
            return "what is encrypted does not shrink; compress first"
        encrypted = encrypted or (stage is not None and stage.encrypts)
    return ""


# ---- coding -------------------------------------------------------------------------------------


class Coder:
    """Codes and decodes the values of one namespace. It does not change."""

    __slots__ = ("_is_lz4", "_sound", "context", "dictionary", "name", "stages")

    def __init__(self, context: Context, name: str, stages: bytes, dictionary: int = 0) -> None:
        self.context, self.name = context, name.encode()
        self.stages, self.dictionary = stages.rstrip(b"\0"), dictionary
        self._is_lz4 = self.stages == bytes([LZ4]) and not dictionary
        self._sound = False

    def __repr__(self) -> str:
        return f"<pmkv._codec.Coder {text_of(self.stages)}>"

    def with_stages(self, stages: bytes) -> Coder:
        """One for the same namespace with another codec."""
        return Coder(self.context, self.name.decode(), stages, self.dictionary)

    def for_codec(self, text: str | None) -> Coder | None:
        """What encodes a value that is to go under another codec; None: nothing does."""
        stages = parse(text)
        if stages == self.stages:
            return self if stages else None
        return self.with_stages(stages) if stages else None

    def check(self) -> None:
        """Raises a CodecError if new values could not be encoded: package, key or codec missing."""
        self._judge()
        for number in self.stages:
            _stage(number).check(self.context)

    def _judge(self) -> None:
        """Raises a CodecError if the chain cannot be; a stage may be known only by now."""
        wrong = fault_of(self.stages)
        if wrong:
            raise CodecError(f"codec {text_of(self.stages)}: {wrong}")
        self._sound = all(number in _stages for number in self.stages)

    def encode(self, key: bytes, value: bytes) -> tuple[int, bytes]:
        """The coding and the payload; (0, value) if it is to be stored plain."""
        if self._is_lz4:  # what nearly all have: the way of a batch costs it 2 us more
            made = _lz4.encode(value)
            return (0, value) if made is None else (_coding(len(value), self.stages), made)
        return self.encode_many([key], [value])[0]

    def encode_many(self, keys: list[bytes], values: list[bytes]) -> list[tuple[int, bytes]]:
        """As encode() of each, several at a time where that pays. The first that fails is named."""
        if not self._sound:
            self._judge()
        batch = Batch(self, keys, values)
        for position, number in enumerate(self.stages, 1):
            batch.rest = self.stages[position:]
            self._apply(WITH_DICTIONARY.get(number, number) if self.dictionary else number, batch)
        return batch.results()

    def _apply(self, number: int, batch: Batch) -> None:
        """One stage to all."""
        try:
            batch.take(number, _stage(number).encode_many(batch))
        except CodecError as error:
            raise CodecError(f"codec {text_of(self.stages)}: {error}") from error.__cause__

    def decode(self, coding: int, key: bytes, payload: Data) -> bytes:
        """The value, of the size that the coding says; else a CodecError that names the key."""
        try:
            return self._decode(coding, key, payload)
        except CodecError as error:
            _raise_named(key, error)

    def _decode(self, coding: int, key: bytes, payload: Data) -> bytes:
        if not coding:
            return bytes(payload)
        raw_size = coding & 0xFFFFFFFF
        data = payload
        for number, is_first in _back(coding >> 32):
            size = raw_size if is_first else None
            data = _stage(number).decode(self, key, coding, data, size)
        if len(data) != raw_size:
            raise CodecError(f"it has {len(data)} bytes, not {raw_size} as it was stored with")
        return data  # type: ignore[return-value]
