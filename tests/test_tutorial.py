"""The tutorial is true: every line of it runs and prints what it says."""

from __future__ import annotations

import doctest
from pathlib import Path

TUTORIAL = Path(__file__).parent.parent / "docs" / "tutorial.md"


def test_every_line_of_the_tutorial_does_what_it_says() -> None:
    test = doctest.DocTestParser().get_doctest(
        TUTORIAL.read_text(), {}, "tutorial", str(TUTORIAL), 0
    )
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    result = runner.run(test, out=report.append)
    assert result.attempted > 30
    assert result.failed == 0, "".join(report)
