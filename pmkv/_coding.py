"""What codecs need of a pool: each namespace's codec, dictionaries, and whether a key is right.

The last two lie in a namespace that no program can name (docs/format.md, section 12).
"""

from __future__ import annotations

import contextlib
import weakref
from typing import Any, Final

from pmkv._codec import (
    AES,
    CHACHA20,
    LZ4,
    WITH_DICTIONARY,
    ZSTD,
    Coder,
    Context,
    parse,
    text_of,
    train,
)
from pmkv._errors import CodecError, CorruptedError, Error, NotFoundError, ReadonlyError
from pmkv._face import Face
from pmkv._namespaces import CODECS_NAME, Named, has_codecs
from pmkv._session import Session
from pmkv._snapshot import Past
from pmkv._table import Table
from pmkv._types import PathStat

_STAGES_SHIFT: Final = 8
_DICTIONARY_SHIFT: Final = 40
_STAGES_MASK: Final = 0xFFFFFFFF << _STAGES_SHIFT
_DICTIONARY_MASK: Final = 0xFF << _DICTIONARY_SHIFT
_MOST_DICTIONARIES: Final = 255
_SAMPLES: Final = 100  # bytes of values that a dictionary is trained on, for each byte of it
_LARGEST_SAMPLE: Final = 64 << 10
_SMALLEST_SHARE: Final = 1024  # of those bytes that one value may have
_CODING: Final = 8  # bytes
_TRIED: Final = b"pmkv"  # what is encrypted with a key, to try it on later


class _Kept(Named, Face):
    """The namespace of dictionaries and keys' tries, as a store or transaction sees it."""


class _Seen(Named, Face):
    """A namespace as it was at a moment."""


def _look(source: Table, context: Context, name: bytes) -> bytes | None:
    """What is kept under a name: for the pool a plain value, with its coding in front."""
    stored = _Kept(source, CODECS_NAME).get(name)
    if stored is None:
        return None
    coding = int.from_bytes(stored[:_CODING], "little")
    return Coder(context, CODECS_NAME, b"").decode(coding, name, stored[_CODING:])


def _keep(source: Table, context: Context, name: bytes, value: bytes, stages: bytes) -> bool:
    """Keeps something for ever under a name, if nothing is; whether it did."""
    kept = _Kept(source, CODECS_NAME, ordered=False)
    if name in kept:
        return False
    coding, payload = Coder(context, CODECS_NAME, stages).encode(name, value)
    stored = coding.to_bytes(_CODING, "little") + payload
    return kept.put(name, stored, overwrite=False, durability="sync")


def stages_in(options: int) -> bytes:
    """The codec of new values that a namespace's options say."""
    return (options >> _STAGES_SHIFT & 0xFFFFFFFF).to_bytes(4, "little").rstrip(b"\0")


def options_of(codec: str | None) -> int:
    """The same, of a text, as bits of the options."""
    return int.from_bytes(parse(codec), "little") << _STAGES_SHIFT


def need(codec: str | None, context: Context) -> None:
    """Raises what new values could not be encoded for: before anything is made that wants it."""
    Coder(context, "", parse(codec)).check()


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

    noted: set[int] = set()

    def note(table: Any, coder: Coder) -> None:
        ciphers = [n for n in coder.stages if n in (AES, CHACHA20) and n not in noted]
        if not ciphers or not table._is_writable():
            return
        coder.check()
        owner = table.source if isinstance(table, Named) else table
        _note_key(owner, context, bytes(ciphers))
        if not isinstance(owner, Session):  # which may still be aborted
            noted.update(ciphers)

    context = Context(key, load)
    context.note = note
    return context


def try_key(source: Table, context: Context, where: str) -> None:
    """Raises a CodecError if the key is not the one that values of the pool were encrypted with."""
    if not has_codecs(source):
        return
    for number in (AES, CHACHA20):
        try:
            _look(source, context, b"key" + bytes([number]))
        except CorruptedError:  # says nothing of the key; values say for themselves
            continue
        except CodecError as error:
            raise CodecError(f"{where}: the key does not fit: {error}") from None


def _note_key(source: Table, context: Context, stages: bytes) -> None:
    """Has something to try keys on, before the first value is encrypted."""
    for number in stages:
        _keep(source, context, b"key" + bytes([number]), _TRIED, bytes([number]))


def use_codec(source: Table, table: Face, context: Context, name: str, codec: str | None) -> None:
    """Has the table encode new values as the pool says; as `codec` from now on, if it is given.

    Tables that there are already, also of the same namespace, go on as before.
    """
    if codec is not None and table._is_writable():
        need(codec, context)
        context.note(source, Coder(context, name, parse(codec)))
        if options_of(codec) != table._options() & _STAGES_MASK:
            table._set_options(options_of(codec), _STAGES_MASK)
    options = table._options()
    coder = Coder(context, name, stages_in(options), options >> _DICTIONARY_SHIFT & 0xFF)
    with contextlib.suppress(Error):  # without a key there is none to note, nor in a full pool
        context.note(source, coder)
    if coder.stages and coder.dictionary and table._is_writable():
        with contextlib.suppress(Error):  # values say for themselves that it is missing
            _fetch(context, coder.dictionary)
    table._code(coder, coder.stages != b"")


def _fetch(context: Context, number: int) -> None:
    """Before it is needed: a store that the collector takes cannot be asked for it any more."""
    context.dictionary(number)


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


def _samples(source: Table, table: Face, size: int, secret: bool) -> list[bytes]:
    """Values of the namespace as they are before any codec, taken from all over it.

    Of each what it begins with, if it is large: so there are many.  Of those that may be encrypted
    none, unless the dictionary is `secret` too.
    """
    samples: list[bytes] = []
    room, share = _SAMPLES * size, max(size // 4, _SMALLEST_SHARE)
    with Past(source) as moment:
        space: Face | Past = moment
        if isinstance(table, Named):
            space = _Seen(moment, table.name)
        space._code(table._coder(), False)
        for key in table._some_keys(max(1000, room // 64)):
            coding = space._coding_of(key)
            if (_hides(coding) and not secret) or coding & 0xFFFFFFFF > _LARGEST_SAMPLE:
                continue
            with contextlib.suppress(NotFoundError, CodecError), space.view(key) as value:
                if len(value) <= _LARGEST_SAMPLE:
                    samples.append(bytes(value[:share]))
                    room -= len(samples[-1])
            if room < 0:
                break
    return samples


def _behind(stages: bytes) -> bytes:
    """What a codec does to values besides compressing them: it may be to hide them."""
    return bytes(stage for stage in stages if stage not in (LZ4, ZSTD, *WITH_DICTIONARY.values()))


def _hides(coding: int) -> bool:
    return _behind((coding >> 32).to_bytes(4, "little").rstrip(b"\0")) != b""


def _keep_dictionary(source: Table, context: Context, dictionary: bytes, stages: bytes) -> int:
    """Its number, which was nobody's: values need for ever the one they were encoded with."""
    for number in range(1, _MOST_DICTIONARIES + 1):
        if _keep(source, context, b"dictionary" + bytes([number]), dictionary, stages):
            return number
    raise Error(
        f"the pool has {_MOST_DICTIONARIES} dictionaries, and this would be one more; values may "
        "need any of them, so they stay: go on with the one that there is"
    )


def train_dictionary(source: Table, table: Face, size: int) -> int:
    """Makes the table's next values be compressed with a dictionary; its size."""
    stages = stages_in(table._options())  # first: it refuses a handle that has ended
    coder = table._coder()
    context = coder.context
    if isinstance(source, Session):
        raise Error("train_dictionary() is a commit of its own: call it outside of the transaction")
    if not table._is_writable():
        raise ReadonlyError("train_dictionary() writes: open the pool with flag='w' or 'c'")
    if LZ4 not in stages and ZSTD not in stages:
        raise Error(
            "a dictionary is for values that are compressed: open the store, or the namespace, "
            "with codec='lz4' or 'zstd'"
        )
    need(text_of(stages), context)
    behind = _behind(stages)
    dictionary = train(_samples(source, table, size, behind != b""), size)
    number = _keep_dictionary(source, context, dictionary, behind)
    _fetch(context, number)
    table._set_options(number << _DICTIONARY_SHIFT, _DICTIONARY_MASK)
    table._code(Coder(context, coder.name.decode(), stages, number), True)
    return len(dictionary)
