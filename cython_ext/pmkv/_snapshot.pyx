"""_snapshot.pyx (L6): a store as it was at one moment: a table that only reads.

May know: the engine and tables.
"""
from pmkv._reading cimport Reader
from pmkv._table cimport Table


cdef class Past(Table):
    """The pool at one moment, whatever is written later.  Made by snapshot(); pmkv.Snapshot in Python.

    Other threads and this one go on writing.  What they overwrite or delete, and this sees, is kept until it
    is closed; nothing else is.
    """
    cdef Reader store             # is not closed while this is in use

    def __cinit__(self, Reader source not None, *args, **kwargs):
        source.need_reader()
        self.store = source
        self.attach(source.e, source.namespace, source.verify, NULL, None)
        self.inherit(source)
        self.look_back(source.moment if source.as_of else source.e.now())

    @property
    def closed(self):
        """Whether it was closed, or the store was."""
        return not self.e.usable or self.moment.at == 0

    def __enter__(self):
        self.need_reader()
        return self

    def __exit__(self, kind, error, trace):
        self.close()

    def close(self):
        """Ends it, and gives back what was kept for it; again it does nothing."""
        self.moment.end()
        self.e.collect_unless_busy()

    commit = close
    abort = close
