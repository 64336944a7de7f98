"""_namespaces.pyx (L6): namespaces by name, as Python sees them: made, listed, dropped.

May know: tables, scans, the catalogue.

A drop gives the name up in one commit; then the keys go in many small ones, and the rest with the
last.  What a crash leaves of it stands in the catalogue under a hidden name, and the next drop or
sync() goes on with it.
"""
from pmkv._arguments cimport Bytes, read_bytes, release
from pmkv._catalogue cimport catalogue_add, catalogue_find, catalogue_remove, catalogue_rename
from pmkv._core cimport *
from pmkv._engine cimport Engine
from pmkv._table cimport Table

from itertools import islice

from pmkv._errors import Error, InvalidKeyError, NotFoundError
from pmkv import _scan

cdef enum:
    SLICE = 4096                  # keys of one commit of a drop
    AT_ONCE = 65536               # so many keys go in one

cdef bytes HIDDEN = b"\0dropped\0"


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
    if source.t != NULL:
        source.need_transaction()
    source.e.need_open()
    status = catalogue_find(source.pool, source.t, name, len(name), &place)
    if status < 0:
        source.e.fail(status)
    return place if status == PMKV_OK else 0


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
    cdef Table source             # the store is not closed while this is in use

    def __cinit__(self, Table source not None, name, *, keys=None, ordered=None):
        cdef bytes raw = raw_name(name)
        cdef u64 options = PMKV_OPTION_KEYS_STR if keys == "str" else 0
        cdef u64 place = find(source, raw)
        options |= PMKV_OPTION_UNORDERED if ordered is False else 0
        if place == 0 and not source.pool.writable:
            raise NotFoundError(f"{source.e.path}: there is no namespace {name!r}, and flag='r' makes none")
        if place == 0:
            place = make(source, raw, options)
        self.name, self.source = name, source
        self.attach(source.e, place, source.verify, source.t, source.owner)
        if keys is not None and (keys == "str") != self.keys_are_str:
            raise Error(f"{source.e.path}: namespace {name!r}: its keys are {'str' if self.keys_are_str else 'bytes'}")
        if ordered is not None and bool(ordered) != self.ordered:
            raise Error(f"{source.e.path}: namespace {name!r}: it was made with ordered={bool(self.ordered)}")
        source.e.tables[id(self)] = self


cdef Table catalogue_of(Table source):
    cdef Table catalogue = Table()
    catalogue.attach(source.e, ROOT_CATALOGUE, source.verify, source.t, source.owner)
    return catalogue


def names(Table source not None):
    """The names of all namespaces, sorted."""
    return [name.decode() for name in _scan.scan(catalogue_of(source), _scan.SHOW["keys"], start=b"\1")]


def drop(Table source not None, name):
    """Deletes the namespace, with all of its keys.  NotFoundError if it is not there."""
    cdef bytes raw = raw_name(name), hidden
    cdef const char* data = raw
    cdef const char* other
    cdef u64 size = len(raw), other_size, place = find(source, raw)
    cdef int status = PMKV_NOT_FOUND
    if place == 0:
        raise NotFoundError(name)
    hidden = HIDDEN + place.to_bytes(8, "little")
    other, other_size = hidden, len(hidden)
    source.begin(False)
    with nogil:
        status = catalogue_rename(&source.e.txn, data, size, other, other_size)
    source.end(source.settle(status))
    if status == PMKV_NOT_FOUND:
        raise NotFoundError(name)
    forget_tables(source.e, place, name)
    finish_drops(source)


cdef forget_tables(Engine e, u64 place, name):
    """Handles on the namespace are of no use any more: what is written there later is not theirs."""
    cdef Engine gone = Engine()
    cdef Table table
    gone.path, gone.unusable_because = e.path, f"the namespace {name!r} was dropped"
    for table in list(e.tables.values()):
        if table.namespace == place:
            table.e = gone
            del e.tables[id(table)]


def finish_drops(Table source not None):
    """Takes away what is left of namespaces that were dropped, in commits of a bounded size."""
    cdef Table victim
    cdef const char* data
    cdef u64 size
    cdef int status
    for hidden in list(_scan.scan(catalogue_of(source), _scan.SHOW["keys"], prefix=HIDDEN)):
        victim = Table()
        victim.attach(source.e, int.from_bytes(hidden[len(HIDDEN):], "little"), source.verify, NULL, None)
        while len(victim) > AT_ONCE:
            victim.delete_many(list(islice(_scan.scan(victim, _scan.SHOW["keys"]), SLICE)))
        victim.clear()
        data, size = hidden, len(hidden)
        source.begin(False)
        with nogil:
            status = catalogue_remove(&source.e.txn, data, size)
        source.end(source.settle(status))
