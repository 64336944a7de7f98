"""_session.pyx (L6): a transaction that is open over many calls: a table whose writes wait for commit().

May know: the engine and tables.
"""
from cython cimport final
from pmkv._core cimport *
from pmkv._engine cimport Engine
from pmkv._table cimport Table

from pmkv._errors import ClosedError


cdef class Session(Table):
    """Many changes of one pool, all of them or none.  Made by begin(); pmkv.Transaction in Python.

    It is the pool's one writer until it ends: other threads' writes wait, and their reads see the
    pool as it was.  Reads through it see its own writes.  For one thread.
    """
    cdef object token

    def __cinit__(self, Table table not None, *args, **kwargs):
        self.token = object()
        table.e.open_transaction(self.token)
        self.attach(table.e, table.namespace, table.verify, &table.e.txn, self.token)

    def __dealloc__(self):
        if self.e is not None and self.e.transaction is self.token:
            self.e.close_transaction(False)

    @property
    def closed(self):
        return not self.e.usable or self.e.transaction is not self.token

    def __enter__(self):
        self.need_transaction()
        return self

    def __exit__(self, kind, error, trace):
        if self.closed:
            return
        if kind is None:
            self.commit()
        else:
            self.abort()

    def commit(self):
        """Makes every change since begin() durable, in one commit.  Raises PoolFullError: then none happened."""
        cdef int status
        self.need_transaction()
        status = self.e.close_transaction(True)
        if status < 0:
            self.e.fail(status)

    def abort(self):
        """Forgets every change since begin().  Again, or after commit(), it does nothing."""
        if not self.closed:
            self.e.close_transaction(False)
