"""Files with a few bytes changed, as ``benchmarks/fuzz_recordings.py`` makes them by number."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
KINDS_THAT_ARE_NONE = (1604, 1922)  # of channels in FIF


def test_each_is_cleaned_or_rejected_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from fuzz_recordings import clean, kind_of_end, write

    numbers = [*range(60), *KINDS_THAT_ARE_NONE]
    for number in numbers:
        write(tmp_path, number)
    reasons = clean(tmp_path, 2)
    ends = {number: kind_of_end(reason) for number, reason in reasons.items()}
    assert sorted(ends) == sorted(numbers)
    assert {number: reasons[number] for number in ends if ends[number] == "neither"} == {}
    assert {ends[number] for number in KINDS_THAT_ARE_NONE} == {"rejected"}
    count = Counter(ends.values())
    assert count["cleaned"] > 20
    assert count["ended"] <= 3
