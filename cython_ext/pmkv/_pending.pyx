# cython: boundscheck=True, wraparound=True
"""_pending.pyx: lines stored to since they were last durable, and what of them a fence or sync keeps.

Part of the simulator (_simulator.pyx): a crash may leave each line with any of its contents.
"""
from pmkv._core cimport *
from pmkv._pool cimport Pool


cdef class Pending:
    """Lines stored to since they were last durable: each with its contents, oldest (durable) first."""
    cdef bytes durable(self, u64 line):
        content = self.overlay.get(line)
        if content is None:
            content = (<const char*>pmkv_at(&self.base.m, line))[:self.unit]
        return content

    cdef store(self, u64 place, size_t size, const char* data):
        cdef u64 line = place - place % self.unit, end = place + size, first, last
        while line < end:
            first, last = max(line, place), min(line + self.unit, end)
            versions = self.lines.get(line)
            if versions is None:
                versions = self.lines[line] = [self.durable(line)]
            old = <bytes>versions[-1]
            new = old[:first - line] + data[first - place:last - place] + old[last - line:]
            if new != old:
                versions.append(new)
                self.order.append((line, len(versions) - 1))
            line += self.unit

    cdef flush(self, u64 place, size_t size):
        cdef u64 line = place - place % self.unit
        while line < place + size:
            versions = self.lines.get(line)
            if versions is not None:
                self.flushed[line] = len(versions) - 1
            line += self.unit

    cdef dict settle(self, dict kept):
        """The lines of `kept` (line -> index) are durable now; their contents."""
        cdef dict durable = {}
        for line, index in kept.items():
            versions = self.lines.get(line)
            if versions is None:
                continue
            durable[line] = versions[index]
            if index == len(versions) - 1:
                del self.lines[line]
            else:
                self.lines[line] = versions[index:]
        self.order = [(line, index - kept.get(line, 0)) for line, index in self.order
                      if line in self.lines and index > kept.get(line, 0)]
        self.flushed = {line: 0 for line in ()}
        return durable

    cdef dict fence(self):
        return self.settle(self.flushed)

    cdef dict sync(self, u64 place, size_t size):
        if size == 0:
            return self.settle({line: len(versions) - 1 for line, versions in self.lines.items()})
        first = place - place % self.unit
        return self.settle({line: len(versions) - 1 for line, versions in self.lines.items()
                            if first <= line < place + size})


cdef Pending pending_on(Pool* base, u64 unit, dict overlay):
    cdef Pending pending = Pending.__new__(Pending)
    pending.lines, pending.flushed, pending.order = {}, {}, []
    pending.unit, pending.base, pending.overlay = unit, base, overlay
    return pending
