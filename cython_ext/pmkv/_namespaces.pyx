"""_namespaces.pyx (L6): namespaces by name, as Python sees them: made, listed, dropped.

May know: tables, scans, the catalogue.

A drop gives the name up in one commit; then the keys go in many small ones, and the rest with the
last.  What a crash leaves of it stands in the catalogue under a hidden name, and the next drop or
sync() goes on with it.
"""
from pmkv._arguments cimport Bytes, read_bytes, release
from pmkv._catalogue cimport catalogue_add, catalogue_find, catalogue_remove, catalogue_rename, namespace_in
from pmkv._core cimport *
from pmkv._engine cimport Engine
from pmkv._records cimport Record
from pmkv._table cimport Table
from libc.string cimport memcpy

from pmkv._errors import Error, InvalidKeyError, NotFoundError, PoolFullError
from pmkv import _scan

cdef enum:
    SLICE = 4096                  # keys of one commit of a drop
    AT_ONCE = 65536               # so many keys go in one

    HIDDEN_SIZE = 9

cdef bytes HIDDEN = b"\0dropped\0"
cdef bytes CODECS = b"\0codecs"       # dictionaries, and what keys are tried on

CODECS_NAME = CODECS.decode()         # which no program can give: no other text is it


cdef bytes raw_name(object name):
    """The name as the catalogue has it."""
    cdef Bytes b
    if not isinstance(name, str) or not name or name[0] == "\0":
        raise InvalidKeyError(f"a namespace's name is a text, not empty, not {name!r:.60}")
    read_bytes(name, &b, True)
    try:
        return b.data[:b.size]
    finally:
        release(&b)


cdef u64 find(Table source, bytes name) except? 0:
    """The place of the namespace's root, as `source` sees the pool; 0 if it is not there."""
    cdef u64 place = 0
    cdef int status
    if source.as_of:
        return find_then(source, name)
    if source.t != NULL:
        source.need_transaction()
    source.e.need_open()
    status = catalogue_find(source.pool, source.t, name, len(name), &place)
    if status < 0:
        source.e.fail(status)
    return place if status == PMKV_OK else 0


cdef u64 find_then(Table source, bytes name) except? 0:
    """The same at a snapshot's moment: a root is not freed while there is any snapshot."""
    cdef Record r
    cdef u64 place = 0
    cdef int status = catalogue_of(source).look_up(name, &r)
    if status == PMKV_OK:
        status = namespace_in(source.pool, &r, &place)
    if status < 0:
        source.e.fail(status)
    return place


cdef u64 make(Table source, bytes name, u64 options) except? 0:
    """The same; a new one if it is not there."""
    cdef u64 place = 0
    cdef const char* data = name
    cdef u64 size = len(name)
    cdef int status
    source.begin(False)
    with nogil:
        status = catalogue_find(source.pool, &source.e.txn, data, size, &place)
        if status == PMKV_NOT_FOUND:
            status = catalogue_add(&source.e.txn, data, size, options, &place)
    source.end(source.settle(status))
    return place


cdef class Named(Table):
    """A namespace of a pool; pmkv.Namespace in Python."""
    cdef readonly str name
    cdef readonly Table source    # the store is not closed while this is in use

    def __cinit__(self, Table source not None, name, *, keys=None, ordered=None, u64 values=0):
        cdef bytes raw = CODECS if name is CODECS_NAME else raw_name(name)   # this text itself: not one that equals it
        cdef u64 options = values | (PMKV_OPTION_KEYS_STR if keys == "str" else 0)
        cdef u64 place
        if isinstance(source, Named):
            raise TypeError("namespaces are made of stores and transactions; there are none inside of others")
        if keys not in (None, "bytes", "str") or ordered not in (None, True, False):
            raise ValueError(f"keys is 'bytes' or 'str', ordered True or False, not {keys!r:.60} and {ordered!r:.60}")
        if ordered is not None and not ordered:
            options |= PMKV_OPTION_UNORDERED
        place = find(source, raw)
        if place == 0 and (source.as_of or not source.pool.writable):
            reason = "a snapshot" if source.as_of else "flag='r'"
            raise NotFoundError(f"{source.e.path}: there is no namespace {name!r}, and {reason} makes none")
        if place == 0:
            place = make(source, raw, options)
        # From where its place is known to here nothing gave the GIL up or ran Python code: no drop came between.
        self.attach(source.e, place, source.verify, source.t, source.owner)
        self.look_back(source.moment)
        self.join_named()
        self.lazy = source.lazy
        self.name, self.source = name, source
        if keys is not None and (keys == "str") != self.keys_are_str:
            raise Error(f"{source.e.path}: namespace {name!r}: its keys are {'str' if self.keys_are_str else 'bytes'}")
        if ordered is not None and bool(ordered) != self.ordered:
            raise Error(f"{source.e.path}: namespace {name!r}: it was made with ordered={bool(self.ordered)}")


cdef Table catalogue_of(Table source):
    cdef Table catalogue = Table()
    catalogue.attach(source.e, ROOT_CATALOGUE, source.verify, source.t, source.owner)
    catalogue.look_back(source.moment)
    return catalogue


def has_codecs(Table source not None):
    """Whether the pool has anything that codecs need."""
    return find(source, CODECS) != 0


def totals(Table source not None):
    """Keys, and bytes of keys and values, of the default namespace and all that have names; and what is coded.

    All of one commit: a part must not be more than the whole.
    """
    cdef u64 place, entries = 0, live_bytes = 0
    hidden = _scan.scan(catalogue_of(source), _scan.SHOW["keys"], {"prefix": HIDDEN})    # counted until they are gone
    listed = [name.encode() for name in names(source)] + list(hidden)
    source.e.wait_for_writer()    # from here on nothing gives the GIL up
    roots = [find(source, name) for name in listed]
    roots.append(ROOT_DEFAULT_NAMESPACE)
    for place in roots:
        entries += source.e.root(place + NAMESPACE_ENTRY_COUNT) if place else 0
        live_bytes += source.e.root(place + NAMESPACE_LIVE_BYTES) if place else 0
    return source._codings(), entries, live_bytes


def names(Table source not None):
    """The names of all namespaces, sorted."""
    try:
        return [name.decode() for name in _scan.scan(catalogue_of(source), _scan.SHOW["keys"], {"start": b"\1"})]
    except UnicodeDecodeError:
        source.e.damaged(PMKV_CHECK_RECORD, ROOT_CATALOGUE)


cdef object missing(Table source, str name):
    return NotFoundError(f"{source.e.path}: there is no namespace {name!r}; namespaces() lists them")


def drop(Table source not None, name):
    """Deletes the namespace, with all of its keys.  NotFoundError if it is not there."""
    cdef bytes raw = raw_name(name)
    if find(source, raw) == 0:
        raise missing(source, name)
    if hide(source, raw) == PMKV_FULL:   # no room for another name: its keys make some
        table_of(source, raw)._delete_in_slices(SLICE)
        if hide(source, raw) == PMKV_FULL:
            take_away(source, raw)
            if find(source, raw):
                source.e.fail(PMKV_FULL)
    finish_drops(source)


cdef int hide(Table source, bytes name) except -100:
    """Gives the name up; OK or FULL."""
    cdef const char* data = name
    cdef char[HIDDEN_SIZE + 2] hidden
    cdef u64 size = len(name), place = 0, id
    cdef int status
    memcpy(hidden, <const char*>HIDDEN, HIDDEN_SIZE)
    source.begin(False)           # from here on the root keeps its place
    with nogil:
        status = catalogue_find(source.pool, &source.e.txn, data, size, &place)
        if status == PMKV_OK:
            id = pmkv_load(&source.pool.m, place + NAMESPACE_ID)
            hidden[HIDDEN_SIZE], hidden[HIDDEN_SIZE + 1] = <char>(id >> 8), <char>id
            status = catalogue_rename(&source.e.txn, data, size, hidden, HIDDEN_SIZE + 2)
    status = source.settle(status)
    if status == PMKV_OK or status == PMKV_FULL:
        forget_tables(source.e, place)
    source.end(PMKV_OK if status == PMKV_FULL else status)
    if status == PMKV_NOT_FOUND:
        raise missing(source, name.decode())
    return status


cdef Table table_of(Table source, bytes name):
    """The namespace as a table that nobody else has; None if it is not there."""
    cdef Table table = Table()
    cdef u64 place = find(source, name)
    if place == 0:
        return None
    table.attach(source.e, place, source.verify, NULL, None)
    table.join_named()            # so that it follows a root that moves
    return table


cdef void forget_tables(Engine e, u64 place) noexcept:
    """Handles on the namespace are of no use any more: what is written there later is not theirs."""
    cdef void* at = e.first_named
    while at != NULL:
        if (<Table>at).namespace == place and (<Table>at).as_of == 0:
            (<Table>at).gone = True
        at = (<Table>at).next_named


cdef bint has_pages(Table table) noexcept:
    return (table.e.root(table.namespace + NAMESPACE_MAPPING) != 0
            or table.e.root(table.namespace + NAMESPACE_KEYTREE) != 0)


cdef take_away(Table source, bytes name):
    """The keys of the namespace, in commits of a bounded size, and then the rest of it.

    In a pool that is full, or while anyone reads at an earlier moment and may ask for it, the rest has
    to wait for the next time.
    """
    cdef Table victim = table_of(source, name)
    cdef const char* data = name
    cdef u64 size = len(name)
    cdef int status
    if victim is None:
        return
    if len(victim) > AT_ONCE:
        victim._delete_in_slices(SLICE)
    victim.clear()
    if has_pages(victim):
        victim.clear()
    if has_pages(victim):
        return
    source.begin(False)
    if source.e.pins.moments.open_count:
        source.abandon()
        return
    with nogil:
        status = catalogue_remove(&source.e.txn, data, size)
    source.end(source.settle(status))


def finish_drops(Table source not None):
    """Takes away what is left of namespaces that were dropped, unless another thread is at it."""
    source.e.need_open()
    if source.e.finishing:
        return
    source.e.finishing = True
    try:
        seen = set()
        while True:
            hidden = set(_scan.scan(catalogue_of(source), _scan.SHOW["keys"], {"prefix": HIDDEN})) - seen
            if not hidden:
                return
            seen |= hidden
            for name in hidden:
                take_away(source, name)
    except PoolFullError:         # readers keep what they see: later there is room
        pass
    finally:
        source.e.finishing = False
