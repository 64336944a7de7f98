"""A writer for power cuts on real persistent memory, and the judge of what is left.

    python tests/power_cut.py write POOL          writes for ever, and prints what is acknowledged
    python tests/power_cut.py verify POOL LINES   LINES: the file that holds what was printed

Cut the power of the machine (or of the virtual one) while the first runs, start it again, and
run the second: everything acknowledged is there, and at most the one operation after it.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
from pathlib import Path

import pmkv

KEYS = 500


def value_of(round_: int, key: int) -> bytes:
    """What a key holds after a round: of any size, and its content known from the numbers."""
    seed = hashlib.sha256(b"%d %d" % (round_, key)).digest()
    size = (0, 20, 100, 100, 1500, 5000, 70_000)[seed[0] % 7]
    return (seed * (size // 32 + 1))[:size]


def write(pool: str) -> None:
    """Puts one key after the other, again and again; a line for every put that returned."""
    with pmkv.open(pool) as db:
        print("domain", db.info()["persistence"], flush=True)
        for number in itertools.count():
            round_, key = divmod(number, KEYS)
            db.put(b"%d" % key, value_of(round_, key))
            print("put", round_, key, flush=True)


def verify(pool: str, lines: str) -> None:
    """Compares the pool with the last line that came out whole."""
    puts = [
        line.split() for line in Path(lines).read_text().splitlines() if line.startswith("put ")
    ]
    whole = [(int(words[1]), int(words[2])) for words in puts if len(words) == 3]
    last_round, last_key = whole[-1]
    with pmkv.open(pool, "w") as db:
        problems = db.check()
        found = dict(db.items())
    in_flight = last_round * KEYS + last_key + 1
    lost = 0
    for key in range(KEYS):
        allowed = {value_of(last_round if key <= last_key else last_round - 1, key)}
        if in_flight % KEYS == key:
            allowed.add(value_of(in_flight // KEYS, key))
        missing_is_right = last_round == 0 and key > last_key
        lost += found.get(b"%d" % key) not in (allowed | ({None} if missing_is_right else set()))
    print(f"{in_flight} acknowledged, {lost} lost or wrong, problems: {problems}")
    sys.exit(bool(lost or problems))


if __name__ == "__main__":
    write(sys.argv[2]) if sys.argv[1] == "write" else verify(sys.argv[2], sys.argv[3])
