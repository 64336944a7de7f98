"""What codecs need of a pool: each namespace's codec, dictionaries, and whether a key is right.

The last two lie in a namespace that no program can name (docs/format.md, section 12).
"""

from __future__ import annotations

import contextlib
import weakref
from typing import Any, Final

from pmkv._codec import AES, CHACHA20, Coder, Context, parse, text_of, train
from pmkv._errors import CodecError, Error, NotFoundError
from pmkv._face import Face
from pmkv._namespaces import CODECS_NAME, Named, has_codecs
from pmkv._table import Table
from pmkv._types import PathStat

_STAGES_SHIFT: Final = 8
_DICTIONARY_SHIFT: Final = 40
_STAGES_MASK: Final = 0xFFFFFFFF << _STAGES_SHIFT
_MOST_DICTIONARIES: Final = 255
_SAMPLES: Final = 100  # bytes of values that a dictionary is trained on, for each byte of it
_LARGEST_SAMPLE: Final = 64 << 10
_CODING: Final = 8  # bytes
_TRIED: Final = b"pmkv"  # what is encrypted with a key, to try it on later


class _Kept(Named, Face):
    """The namespace of dictionaries and keys' tries, as a store or transaction sees it."""


def _look(source: Table, context: Context, name: bytes) -> bytes | None:
    """What is kept under a name: for the pool a plain value, with its coding in front."""
    stored = _Kept(source, CODECS_NAME).get(name)
    if stored is None:
        return None
    coding = int.from_bytes(stored[:_CODING], "little")
    return Coder(context, CODECS_NAME, b"").decode(coding, name, stored[_CODING:])


def _keep(source: Table, context: Context, name: bytes, value: bytes, stages: bytes) -> None:
    coding, payload = Coder(context, CODECS_NAME, stages).encode(name, value)
    kept = _Kept(source, CODECS_NAME)
    kept.put(name, coding.to_bytes(_CODING, "little") + payload, durability="sync")


def stages_in(options: int) -> bytes:
    """The codec of new values that a namespace's options say."""
    return (options >> _STAGES_SHIFT & 0xFFFFFFFF).to_bytes(4, "little").rstrip(b"\0")


def options_of(codec: str | None) -> int:
    """The same, of a text, as bits of the options."""
    return int.from_bytes(parse(codec), "little") << _STAGES_SHIFT


def context_of(source: Table, key: Any) -> Context:
    """What all handles on a pool share; it does not keep the store."""
    alive = weakref.ref(source)

    def load(number: int) -> bytes:
        store = alive()
        if store is None or not has_codecs(store):
            raise NotFoundError(number)
        found = _look(store, context, b"dictionary" + bytes([number]))
        if found is None:
            raise NotFoundError(number)
        return found

    context = Context(key, load)
    return context


def try_key(source: Table, context: Context, where: str) -> None:
    """Raises a CodecError if the key is not the one that values of the pool were encrypted with."""
    if not has_codecs(source):
        return
    for number in (AES, CHACHA20):
        try:
            _look(source, context, b"key" + bytes([number]))
        except CodecError as error:
            raise CodecError(f"{where}: the key does not fit: {error}") from None


def _note_key(source: Table, context: Context, stages: bytes) -> None:
    """Has something to try keys on, before the first value is encrypted."""
    for number in (AES, CHACHA20):
        if number in stages:
            name = b"key" + bytes([number])
            if name not in _Kept(source, CODECS_NAME, ordered=False):
                _keep(source, context, name, _TRIED, bytes([number]))


def use_codec(source: Table, table: Face, context: Context, name: str, codec: str | None) -> None:
    """Has the table encode new values as the pool says; as `codec` from now on, if it is given."""
    options = table._options()
    if codec is not None and table._is_writable():
        wanted = options & ~_STAGES_MASK | options_of(codec)
        stages = parse(codec)
        Coder(context, name, stages).check()
        _note_key(source, context, stages)
        if wanted != options:
            table._set_options(wanted)
            options = wanted
    table._code(
        Coder(context, name, stages_in(options), options >> _DICTIONARY_SHIFT),
        stages_in(options) != b"",
    )


def codec_name(options: int) -> str | None:
    """What a user calls the codec of a namespace with such options; None: plain."""
    stages = stages_in(options)
    return text_of(stages) if stages else None


def counts(
    codings: list[tuple[bytes, int, int, int]], entries: int, live_bytes: int
) -> tuple[dict[str, PathStat], dict[str, PathStat]]:
    """By codec and by path: of the pool's counts, and of what all namespaces hold together."""
    codecs: dict[str, PathStat] = {}
    buffered = PathStat(entries=0, raw_bytes=0, stored_bytes=0)
    for stages, found, raw_bytes, stored_bytes in codings:
        codecs[text_of(stages)] = PathStat(
            entries=found, raw_bytes=raw_bytes, stored_bytes=stored_bytes
        )
        buffered["entries"] += found
        buffered["raw_bytes"] += raw_bytes
        buffered["stored_bytes"] += stored_bytes
    live_bytes -= buffered["stored_bytes"]
    direct = PathStat(
        entries=entries - buffered["entries"], raw_bytes=live_bytes, stored_bytes=live_bytes
    )
    return codecs, {"direct": direct, "buffered": buffered}


def _samples(table: Face, size: int) -> list[bytes]:
    """Values of the namespace as they are before any codec, taken from all over it."""
    samples: list[bytes] = []
    room = _SAMPLES * size
    for key in table._some_keys(max(1000, room // 64)):
        with contextlib.suppress(NotFoundError), table.view(key) as value:
            if len(value) <= _LARGEST_SAMPLE:
                samples.append(bytes(value))
                room -= len(value)
        if room < 0:
            break
    return samples


def train_dictionary(source: Table, table: Face, size: int) -> int:
    """Makes the table's next values be compressed with a dictionary; its size."""
    coder = table._coder()
    context, options = coder.context, table._options()
    if not any(stage in stages_in(options) for stage in parse("lz4+zstd")):
        raise Error(
            "a dictionary is for values that are compressed: open the store, or the namespace, "
            "with codec='lz4' or 'zstd'"
        )
    dictionary = train(_samples(table, size), size)
    ciphers = bytes(stage for stage in stages_in(options) if stage in (AES, CHACHA20))
    kept = _Kept(source, CODECS_NAME, ordered=False)
    numbers = {key[10] for key in kept if key.startswith(b"dictionary")}
    number = next((n for n in range(1, _MOST_DICTIONARIES + 1) if n not in numbers), 0)
    if not number:
        raise Error(f"the pool has {_MOST_DICTIONARIES} dictionaries, and this would be one more")
    _keep(source, context, b"dictionary" + bytes([number]), dictionary, ciphers)
    options = options & (1 << _DICTIONARY_SHIFT) - 1 | number << _DICTIONARY_SHIFT
    table._set_options(options)
    table._code(Coder(context, coder.name.decode(), stages_in(options), number), True)
    return len(dictionary)
