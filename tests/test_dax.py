"""On a DAX file system MAP_SYNC is granted and the cache-line domain is found.

Set PMKV_TEST_DIR to a directory there: then the tests that use memory put their pools into it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import pmkv
from pmkv._engine import probe_sync


def is_dax(directory: Path) -> bool:
    probe = directory / "probe"
    probe.write_bytes(bytes(4096))
    with probe.open("r+b") as file:
        granted = probe_sync(file.fileno())
    probe.unlink()
    return granted


def test_a_dax_file_system_gives_the_cache_line_domain_by_itself(memory_dir: Path) -> None:
    if not is_dax(memory_dir):
        pytest.skip("PMKV_TEST_DIR does not name a directory on a DAX file system")
    with pmkv.open(memory_dir / "pool.pmkv") as db:
        info = db.info()
        assert info["map_sync"]
        assert info["persistence"] in ("cacheline", "byte")
        assert info["durable"].startswith("durable when a write returns")
        db.put_many((b"%d" % i, os.urandom(i)) for i in range(3000))
        assert db.check() == []


def test_what_a_power_cut_leaves_is_judged_by_the_last_acknowledged_put(
    pool_path: Path, tmp_path: Path
) -> None:
    """The judge of power cuts itself: right for a whole run, and not for a lost put."""
    import power_cut

    lines = tmp_path / "lines"
    with pmkv.open(pool_path) as db:
        for key in range(40):
            db.put(b"%d" % key, power_cut.value_of(0, key))
    for acknowledged, exit_code in ((39, 0), (38, 0), (41, 1)):
        lines.write_text("".join(f"put 0 {key}\n" for key in range(acknowledged + 1)))
        with pytest.raises(SystemExit) as end:
            power_cut.verify(str(pool_path), str(lines))
        assert end.value.code == exit_code
