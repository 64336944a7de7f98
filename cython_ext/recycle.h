/* recycle.h (L6): results made from results that nobody looks at any more.
 *
 * Allocating a result and freeing it again takes as many instructions as
 * finding the record did.  So the last few results are kept, and one that
 * nobody else has a reference to is filled again, as CPython's own zip() and
 * enumerate() do with their tuples.  docs/decisions/0011 says what that gives.
 *
 * Threads: under the interpreter's lock.  Without one, results are always new.
 */
#ifndef PMKV_RECYCLE_H
#define PMKV_RECYCLE_H

#include <Python.h>
#include <string.h>

#define PMKV_SPARES 2        /* `for k in keys: v = get(k)` still holds the last one */
#define PMKV_SPARE_LIMIT 480 /* bytes: CPython's small objects; so less than a KiB is kept */

typedef struct {
    PyObject *spare[PMKV_SPARES];
    unsigned turn;
} pmkv_spares;

static inline void pmkv_spares_clear(pmkv_spares *s)
{
    for (int i = 0; i < PMKV_SPARES; i++)
        Py_CLEAR(s->spare[i]);
}

static inline void pmkv_pair_clear(PyObject **pair)
{
    Py_CLEAR(*pair);
}

#ifdef Py_GIL_DISABLED

static inline PyObject *pmkv_pair(PyObject **pair, PyObject *key, PyObject *value)
{
    (void)pair;
    return PyTuple_Pack(2, key, value);
}

static inline PyObject *pmkv_bytes(pmkv_spares *s, const char *data, Py_ssize_t size)
{
    (void)s;
    return PyBytes_FromStringAndSize(data, size);
}

#else

static inline PyObject *pmkv_spare_of_size(const pmkv_spares *s, Py_ssize_t size)
{
    for (int i = 0; i < PMKV_SPARES; i++)
        if (s->spare[i] && Py_REFCNT(s->spare[i]) == 1 && Py_SIZE(s->spare[i]) == size)
            return s->spare[i];
    return NULL;
}

static inline void pmkv_refill(PyObject *spare, const char *data, Py_ssize_t size)
{
    memcpy(PyBytes_AS_STRING(spare), data, (size_t)size);
    _Pragma("GCC diagnostic push")
    _Pragma("GCC diagnostic ignored \"-Wdeprecated-declarations\"")
    ((PyBytesObject *)spare)->ob_shash = -1; /* the hash of what it was */
    _Pragma("GCC diagnostic pop")
}

/* A bytes object with the given content: a new reference, or NULL with MemoryError set. */
static inline PyObject *pmkv_bytes(pmkv_spares *s, const char *data, Py_ssize_t size)
{
    PyObject *o;
    if (size < 2 || size > PMKV_SPARE_LIMIT) /* shorter ones are shared by the interpreter */
        return PyBytes_FromStringAndSize(data, size);
    o = pmkv_spare_of_size(s, size);
    if (o) {
        pmkv_refill(o, data, size);
        Py_INCREF(o);
        return o;
    }
    o = PyBytes_FromStringAndSize(data, size);
    if (o) {
        Py_INCREF(o);
        Py_XSETREF(s->spare[s->turn], o);
        s->turn = (s->turn + 1) % PMKV_SPARES;
    }
    return o;
}

/* A tuple of two: a new reference, or NULL with MemoryError set. */
static inline PyObject *pmkv_pair(PyObject **pair, PyObject *key, PyObject *value)
{
    PyObject *o = *pair;
    if (o && Py_REFCNT(o) == 1) {
        PyObject *old_key = PyTuple_GET_ITEM(o, 0), *old_value = PyTuple_GET_ITEM(o, 1);
        Py_INCREF(o);
        Py_INCREF(key);
        Py_INCREF(value);
        PyTuple_SET_ITEM(o, 0, key);
        PyTuple_SET_ITEM(o, 1, value);
        Py_DECREF(old_key);
        Py_DECREF(old_value);
        return o;
    }
    o = PyTuple_Pack(2, key, value);
    if (o) {
        Py_INCREF(o);
        Py_XSETREF(*pair, o);
    }
    return o;
}

#endif
#endif
