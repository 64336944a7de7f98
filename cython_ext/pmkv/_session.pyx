"""_session.pyx (L6): a transaction that is open over many calls: a table whose writes wait for commit().

May know: the engine and tables; of namespaces, only whether a name still leads to one.

A savepoint is a mark of the write set (_writeset.pyx), known by its serial number.  It holds its
transaction, and not the other way round, so a transaction that nobody holds is aborted at once.
"""
from cython cimport final, no_gc_clear
from pmkv._catalogue cimport catalogue_find
from pmkv._core cimport *
from pmkv._table cimport Table
from pmkv._transaction cimport transaction_mark
from pmkv._writeset cimport txn_has_mark, txn_release, txn_rollback

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
        self.attach(table.e, table.namespace, table.verify, &table.e.txn, self.token)
        self.inherit(table)
        table.e.open_transaction(self.token)   # last: nothing fails behind it and leaves the lock taken

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
        """Makes every change since begin() durable, in one commit.

        Raises PoolFullError, or CorruptedError for damage that it meets: then none happened.
        """
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

    def savepoint(self):
        """Marks this moment, to come back to without giving up the transaction: a Savepoint.

        As a context manager it is rolled back to by an exception.  Raises what a write that failed has raised,
        and PoolFullError where the new keys have no room in the order: after that there is nothing to come
        back to but an earlier savepoint.
        """
        return Savepoint(self)

    @final
    cdef int forget_unmade(self) except -1:
        """Handles on namespaces that a rollback has unmade are of no use any more."""
        cdef list named = []
        cdef void* at = self.e.first_named
        cdef bytes name
        cdef u64 place
        while at != NULL:
            if (<Table>at).owner is self.token and not (<Table>at).gone:
                named.append(<Table>at)
            at = (<Table>at).next_named
        for table in named:
            name = table.name.encode()
            if (catalogue_find(self.pool, self.t, name, len(name), &place) != PMKV_OK
                    or place != (<Table>table).namespace):
                (<Table>table).gone = True
        return 0


@final
cdef class Savepoint:
    """A moment in an open transaction.  Made by its savepoint().

    Savepoints nest: to roll back to one, or to release it, ends those that were made after it, and
    the end of the transaction ends all.  What has ended raises ClosedError.
    """
    cdef Session session
    cdef u64 serial

    def __cinit__(self, Session transaction not None):
        cdef int status
        self.session = transaction
        transaction.need_transaction()
        transaction.e.catch_up()
        transaction.need_transaction()
        status = transaction_mark(transaction.t, &self.serial)
        if status != PMKV_OK:
            transaction.e.fail(status)

    def rollback(self):
        """Undoes every change that the transaction made since; it goes on, and this may be rolled back to again.

        So it is after a PoolFullError, too.  Handles on namespaces that were made since raise ClosedError.
        """
        cdef Session session = self.session
        cdef int status
        session.need_transaction()
        session.e.start_running()
        with nogil:
            status = txn_rollback(session.t, self.serial)
        session.e.stop_running()
        self.end(status)
        session.forget_unmade()

    def release(self):
        """Forgets the savepoint; the changes stay."""
        self.session.need_transaction()
        self.end(txn_release(self.session.t, self.serial))

    cdef int end(self, int status) except -1:
        if status == PMKV_NOT_FOUND:
            raise ClosedError(f"{self.session.e.path}: the savepoint has ended: it was released, or one made "
                              "before it was released or rolled back to")
        if status != PMKV_OK:
            self.session.e.fail(status)
        return 0

    def __enter__(self):
        self.session.need_transaction()
        return self

    def __exit__(self, kind, error, trace):
        """Releases the savepoint; after an exception, having rolled back to it."""
        if self.session.closed:
            return
        self.session.need_transaction()
        if kind is not None and txn_has_mark(self.session.t, self.serial):
            self.rollback()
        txn_release(self.session.t, self.serial)
