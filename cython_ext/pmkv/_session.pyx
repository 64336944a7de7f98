"""_session.pyx (L6): a transaction that is open over many calls: a table whose writes wait for commit().

May know: the engine and tables.
"""
from cython cimport no_gc_clear
from pmkv._core cimport *
from pmkv._table cimport Table

from pmkv._errors import ClosedError


@no_gc_clear                      # its end needs the engine
cdef class Session(Table):
    """Many changes of one pool, all of them or none.  Made by begin(); pmkv.Transaction in Python.

    It is the pool's one writer until it ends: other threads' writes wait, and their reads see the
    pool as it was.  Reads through it see its own writes.  For one thread.
    """
    cdef object token
    cdef Table store              # is not closed while this is open

    def __cinit__(self, Table table not None, *args, **kwargs):
        self.token = object()
        self.store = table
        table.e.open_transaction(self.token)
        self.attach(table.e, table.namespace, table.verify, &table.e.txn, self.token)

    def __dealloc__(self):
        if self.is_open():
            self.e.close_transaction(False)

    cdef bint is_open(self) noexcept:
        return self.e.transaction is self.token

    @property
    def closed(self):
        """Whether it has ended, or the store was closed."""
        return not self.e.usable or not self.is_open()

    def __enter__(self):
        self.need_transaction()
        return self

    def __exit__(self, kind, error, trace):
        if self.is_open() and kind is None:
            self.commit()
        else:
            self.abort()

    def commit(self):
        """Makes every change since begin() durable, in one commit.  Raises PoolFullError: then none happened."""
        cdef int status
        if not self.is_open():
            self.need_transaction()
            raise ClosedError(f"{self.e.path}: the transaction has ended; begin another")
        status = self.e.close_transaction(True)
        if status < 0:
            self.e.fail(status)

    def abort(self):
        """Forgets every change since begin().  Again, or after commit(), it does nothing."""
        if self.is_open():
            self.e.close_transaction(False)
