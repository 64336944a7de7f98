"""Two or more checkouts of pmkv, one operation: fresh processes in turns, low percentiles.

For differences of a few per cent.  Each process has a fresh copy of the package, since where a
file lies in the page cache alone makes several per cent.  See docs/decisions/0030.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PERCENTILES = (5, 10, 25, 50)
OPERATIONS = ("put", "put_many", "overwrite", "transaction", "get", "scan", "range")


def measure(operation: str, ordered: bool, keys: int, slices: int, size: int, batch: int) -> None:
    """Prints nanoseconds per operation of each slice.  Runs in a process of its own."""
    import pmkv  # the copy that PYTHONPATH names

    rng = random.Random(5)
    names = [rng.randbytes(16) for _ in range(keys + slices * size)]
    value = b"v" * 100
    with tempfile.TemporaryDirectory(dir="/dev/shm") as parent:
        path = Path(parent, "pool.pmkv")
        with pmkv.open(path, ordered=ordered, persistence="cacheline") as db:
            for first in range(0, keys, 1000):
                db.put_many((name, value) for name in names[first : first + 1000])
            for first in range(keys, len(names), size):
                some = names[first : first + size]
                if operation in ("overwrite", "get"):
                    some = [bytes(bytearray(name)) for name in rng.sample(names[:keys], size)]
                pairs = [(name, value) for name in some]
                began = time.perf_counter_ns()
                if operation == "put_many":
                    for at in range(0, size, batch):
                        db.put_many(pairs[at : at + batch])
                elif operation == "transaction":
                    for at in range(0, size, batch):
                        with db.begin(write=True) as txn:
                            for name, value in pairs[at : at + batch]:
                                txn.put(name, value)
                elif operation == "scan":
                    collections.deque(db.items(limit=size), maxlen=0)
                elif operation == "range":
                    for name in some[: size // 100]:
                        collections.deque(db.items(start=name, limit=100), maxlen=0)
                elif operation == "get":
                    for name in some:
                        db.get(name)
                else:
                    for name in some:
                        db.put(name, value)
                print((time.perf_counter_ns() - began) / size)


def run(checkout: Path, given: argparse.Namespace) -> list[float]:
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(checkout / "pmkv", Path(copy, "pmkv"))
        command = [sys.executable, __file__, "--child", str(checkout), given.operation]
        command += [f"--keys={given.keys}", f"--slices={given.slices}", f"--size={given.size}"]
        command += [f"--batch={given.batch}"]
        command += ["--unordered"] if given.unordered else []
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": copy},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return [float(line) for line in done.stdout.split()]


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("checkouts", nargs="+", type=Path, help="directories, each with a built pmkv")
    made.add_argument("operation", choices=OPERATIONS)
    made.add_argument("--unordered", action="store_true", help="a store without ordered keys")
    made.add_argument("--keys", type=int, default=400_000, help="that are there before")
    made.add_argument("--slices", type=int, default=40, help="in each process")
    made.add_argument("--size", type=int, default=5000, help="operations in a slice")
    made.add_argument("--batch", type=int, default=1000, help="of put_many, or in a transaction")
    made.add_argument("--repeat", type=int, default=12, help="processes of each checkout")
    made.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = made.parse_args()
    if given.child:
        ordered = not given.unordered
        measure(given.operation, ordered, given.keys, given.slices, given.size, given.batch)
        return
    measured: list[tuple[Path, list[float]]] = [(checkout, []) for checkout in given.checkouts]
    for turn in range(given.repeat):
        for checkout, slices in measured if turn % 2 == 0 else measured[::-1]:
            slices += run(checkout, given)
    first = sorted(measured[0][1])
    print(f"nanoseconds per {given.operation} (part of the first's) at percentiles {PERCENTILES}")
    for checkout, slices in measured:
        ascending = sorted(slices)
        cells = []
        for percentile in PERCENTILES:
            at = len(first) * percentile // 100
            cells.append(f"{ascending[at]:8,.0f} ({ascending[at] / first[at]:.3f})")
        print(checkout, *cells)


if __name__ == "__main__":
    main()
