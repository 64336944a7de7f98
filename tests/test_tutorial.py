"""The documents are true: the tutorial runs, promises and sites are the code's, links lead on.

docs/format.md has a test of its own.
"""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from pmkv._medium import PROMISES
from pmkv._simulator import SITES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*DOCS.glob("**/*.md"), ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
LINK = re.compile(r"\]\(([^)#:\s]+)")


def test_every_line_of_the_tutorial_does_what_it_says() -> None:
    path = DOCS / "tutorial.md"
    test = doctest.DocTestParser().get_doctest(path.read_text(), {}, "tutorial", str(path), 0)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    result = runner.run(test, out=report.append)
    assert result.attempted > 30
    assert result.failed == 0, "".join(report)


@pytest.mark.parametrize("domain", PROMISES)
def test_the_promise_of_each_domain_stands_in_the_table_word_for_word(domain: str) -> None:
    rows = [line.split(" | ") for line in (DOCS / "durability.md").read_text().splitlines()]
    promised = [row[3].rstrip(" |") for row in rows if len(row) == 4 and row[1] == f"`{domain}`"]
    assert promised == [PROMISES[domain]]


def test_every_flush_fence_sync_and_check_stands_in_the_analysis_of_hazards() -> None:
    named = re.findall(
        r"\b(?:FLUSH|FENCE|SYNC|CHECK)_[A-Z_]+\b", (DOCS / "durability.md").read_text()
    )
    assert set(named) == set(SITES) - {"NO_SITE"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_other_files_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target
