"""The record of incidents: each line whole, an empty text where nothing happened."""

import json
from dataclasses import asdict, replace

from hbn_foundation.training.supervision.incidents import (
    FILE,
    Incident,
    add_incident,
    as_lines,
    now,
    read_incidents,
)

INCIDENT = Incident(
    time="2026-01-01T00:00:00+00:00",
    seconds=1.5,
    kind="silent",
    device="cuda",
    section="step",
    epoch=1,
    step=12,
    what="silent for 31 s",
    action="on to cpu",
    stack='File "x.py", line 1\nµ',
)


def test_what_is_added_is_read_again(tmp_path):
    both = [INCIDENT, replace(INCIDENT, step=13)]
    for incident in both:
        add_incident(tmp_path, incident)
    assert read_incidents(tmp_path) == both
    lines = as_lines(both).splitlines()
    assert [json.loads(line) for line in lines] == [asdict(incident) for incident in both]


def test_nothing_happened(tmp_path):
    assert read_incidents(tmp_path) == []
    assert as_lines([]) == ""


def test_a_line_cut_short_hides_no_other(tmp_path):
    add_incident(tmp_path, INCIDENT)
    whole = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(whole + whole[: len(whole) // 2])
    assert read_incidents(tmp_path) == [INCIDENT]
    add_incident(tmp_path, INCIDENT)  # the rest of that line must not swallow it
    assert read_incidents(tmp_path) == [INCIDENT, INCIDENT]


def test_the_time_is_utc():
    assert now().endswith("+00:00")
