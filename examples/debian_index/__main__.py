"""An index of this Debian machine in a pmkv pool, and what a kill in mid-write does to it.

    python examples/debian_index                          load, kill, go on, ask, report
    python examples/debian_index --pool P --keep          the same, and the pool stays
    python examples/debian_index --pool P --query "fsync | msync"
    python examples/debian_index --pool P --owner /usr/bin/env --package dpkg

The data is what every Debian machine has: dpkg's database, apt's indexes, and the text of
Python's standard library with an index of its words. A child process loads it; in the middle
of a commit it is killed with SIGKILL; the pool is opened at once and compared, key by key,
with what the child had been promised; a second child goes on where the first one was.
Without --keep nothing of it stays, unless the pool was there before.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import sources
from loading import Done, Loader, Progress, Run, Survival, examine
from reading import BUILT_IN, Answered, Question, Reading, ask, read

import pmkv

# ---- telling ----------------------------------------------------------------------------------


def say(text: str = "") -> None:
    """A line for the reader, at once, so that lines of child processes fall in order."""
    print(text, flush=True)


def row(name: str, text: str) -> None:
    """A line of a table."""
    say(f"  {name:<18} {text}")


def of_bytes(size: float) -> str:
    """1536 -> '1.5 KiB'."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def of_seconds(seconds: float) -> str:
    """0.0015 -> '1.5 ms'."""
    for unit, scale in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


# ---- loading ----------------------------------------------------------------------------------


def load(path: Path, limit: int | None, kill: bool) -> Run:
    """One life of a loader, told stage by stage."""
    begin = time.perf_counter()
    loader = Loader(path, limit, kill)
    for stage, batches in groupby(loader.messages(), key=attrgetter("stage")):
        follow(stage, batches, begin)
        begin = time.perf_counter()
    return loader.run


def follow(stage: str, batches: Iterator[Done], begin: float) -> None:
    """A stage of the load: a bar while it runs on a terminal, a line when it ends."""
    puts = size = 0
    for done in batches:
        puts, size = puts + done.puts, size + done.size
        if sys.stdout.isatty():
            draw(done, puts)
    seconds = time.perf_counter() - begin
    start = "\r" if sys.stdout.isatty() else ""
    line = f"{done.units:>7,} units {puts:>9,} puts {of_bytes(size):>10} in {of_seconds(seconds)}"
    say(f"{start}{stage:<11} {line:<66}")


def draw(done: Done, puts: int) -> None:
    """One line that is drawn over."""
    share = done.units / done.unit_count if done.unit_count else 0
    bar = f"{'█' * round(24 * share):<24}" if done.unit_count else f"{'(end not known)':<24}"
    print(f"\r{done.stage:<11} {bar} {done.units:>7,} units {puts:>9,} puts", end="", flush=True)


def load_and_kill(path: Path, limit: int | None) -> tuple[list[Run], Survival | None]:
    """A loader that is killed, what is left of it, and a loader that goes on."""
    first = load(path, limit, kill=True)
    if not first.killed:
        say("nothing was killed: the loader came to its end before (too little text here)")
        return [first], None
    when = "with a batch in flight" if first.in_flight else "between two batches"
    say(f"SIGKILL {when}, after {first.batches} acknowledged batches; the pool is opened again")
    survival = examine(path, first)
    tell_survival(survival)
    say("a second loader goes on from there")
    return [first, load(path, limit, kill=False)], survival


def tell_survival(found: Survival) -> None:
    """What the kill did."""
    row("open", f"{of_seconds(found.open_seconds)}, {found.replayed_commits} commits replayed")
    row("first read", of_seconds(found.read_seconds))
    row("acknowledged", f"{found.keys_expected:,} keys compared, {found.wrong} lost or wrong")
    row("batch in flight", found.in_flight)
    row("keys", f"{found.keys:,}, {found.keys_expected:,} expected")
    row("check()", "no problems" if not found.problems else "; ".join(found.problems))


# ---- answers and report -------------------------------------------------------------------------


def tell_answer(found: Answered) -> None:
    """A question and what the pool said."""
    lines, lookups = found.answer
    cost = f"{lookups} lookups in {of_seconds(found.seconds)}"
    say(f"{found.kind} {found.text}: {lines[0]}  ({cost})")
    for line in lines[1:]:
        say(f"    {line}")


def report(runs: list[Run], survival: Survival | None, reading: Reading) -> None:
    """The numbers of this run, and what the pool promises where it lies."""
    stat, info = reading.stat, reading.info
    say("report")
    row("pool", info["path"])
    row("keys", f"{stat['entries']:,}")
    row("data", f"{of_bytes(stat['live_bytes'])} of keys and values")
    for name, coded in stat["codecs"].items():
        row(f"under {name}", f"{coded['entries']:,} values, {of_sizes(coded)}")
    row("pool's size", f"{of_bytes(stat['file_size'])}, {of_bytes(stat['used_bytes'])} of it used")
    if runs:
        report_load(runs)
    for name, rate in reading.rates.items():
        row(f"{name}()", f"{rate:,.0f} lookups/s, warm, keys of all kinds in hash order")
    if survival:
        row("open after kill", of_seconds(survival.open_seconds))
    row("DRAM", f"{of_bytes(reading.held_bytes)} held by the pool's handle")
    row("", f"{of_bytes(reading.grown_bytes)} more anonymous memory in the process that answered")
    row("persistence", f"{info['persistence']} ({info['persistence_reason']})")
    row("durable", info["durable"])


def of_sizes(coded: pmkv.PathStat) -> str:
    """What a codec has made of the values under it."""
    share = coded["stored_bytes"] / max(coded["raw_bytes"], 1)
    return (
        f"{of_bytes(coded['raw_bytes'])} as {of_bytes(coded['stored_bytes'])}: {share:.2f} of them"
    )


def report_load(runs: list[Run]) -> None:
    """The rate with all the reading and splitting of text, and that of put_many alone."""
    puts, size = sum(run.puts for run in runs), sum(run.size for run in runs)
    wall, inside = sum(run.seconds for run in runs), sum(run.put_seconds for run in runs)
    row("load", f"{puts:,} puts, {of_bytes(size)}: {of_seconds(wall)}, {puts / wall:,.0f} puts/s")
    row("put_many alone", f"{of_seconds(inside)}, {puts / inside:,.0f} puts/s")


# ---- the command --------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="debian_index", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--pool", type=Path, help="where the pool lies or is to lie")
    parser.add_argument("--codec", metavar="NAME", help="lz4, or zstd: compress the values")
    parser.add_argument("--keep", action="store_true", help="leave the pool where it is")
    parser.add_argument("--no-kill", action="store_true", help="let the loader live")
    parser.add_argument("--limit", type=int, metavar="N", help="only N units of each kind")
    parser.add_argument("--query", action="append", metavar="WORDS", help="'a b | c': files with")
    parser.add_argument("--owner", action="append", metavar="PATH", help="whose file is it")
    parser.add_argument("--package", action="append", metavar="NAME", help="what is it")
    return parser.parse_args()


def questions_of(options: argparse.Namespace) -> list[Question]:
    """What the user asks, if anything."""
    kinds = ("owner", "package", "query")
    return [(kind, text) for kind in kinds for text in getattr(options, kind) or []]


@contextmanager
def place(pool: Path | None, keep: bool) -> Iterator[Path]:
    """The pool's path; what was not there before is gone afterwards."""
    if pool is None:
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        directory = Path(tempfile.mkdtemp(prefix="debian-index-", dir=memory))
        path = directory / "index.pmkv"
    else:
        directory, path = None, pool
    keep = keep or path.exists()
    try:
        yield path
    finally:
        if not keep:
            path.unlink(missing_ok=True)
            if directory:
                directory.rmdir()


def is_loaded(path: Path) -> bool:
    """Whether a pool is there, and whole."""
    if not path.exists():
        return False
    with pmkv.open(path, "r") as db:
        progress = Progress.of(db)
    return progress is not None and progress.done


def answer(path: Path, questions: list[Question]) -> None:
    """The user's questions to a pool that is there."""
    with pmkv.open(path, "r") as db:
        for kind, text in questions:
            tell_answer(ask(db, kind, text))


def show(path: Path, options: argparse.Namespace) -> int:
    """Load, kill, go on; ask; report. The exit status says whether the pool was whole."""
    runs: list[Run] = []
    survival = None
    if not is_loaded(path):
        say(f"loading into {path}")
        for name in sources.skipped_indexes():
            say(f"skipped, cannot be read here: {name}")
        fresh = not path.exists()
        if options.codec:
            pmkv.open(path, codec=options.codec).close()  # the pool keeps it
        if options.no_kill or not fresh:
            runs = [load(path, options.limit, kill=False)]
        else:
            runs, survival = load_and_kill(path, options.limit)
    reading = read(path, questions_of(options) or BUILT_IN)
    say()
    for found in reading.answered:
        tell_answer(found)
    say()
    report(runs, survival, reading)
    return 0 if survival is None or survival.whole else 1


def main() -> int:
    """The command; its exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the pool is removed
    options = arguments()
    questions = questions_of(options)
    try:
        with place(options.pool, options.keep) as path:
            if questions and is_loaded(path):
                answer(path, questions)
                return 0
            return show(path, options)
    except KeyboardInterrupt:
        return 130
    except (pmkv.Error, OSError, ValueError, RuntimeError) as error:
        print(f"debian_index: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
