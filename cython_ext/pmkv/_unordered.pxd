"""_unordered.pxd (L6): all keys of a table without order."""
from pmkv._core cimport u64
from pmkv._reading cimport Reader, Shows

cdef object unordered(Reader table, Shows shows, u64 most)
