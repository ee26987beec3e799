"""One live table of a sweep: what is done, runs, failed, and the time left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hbn_foundation.evaluation.side_by_side import SECONDS_OF_A_BEAT, SHOWN
from hbn_foundation.progress import drawing, duration, may_draw, say, working
from hbn_foundation.sweeps.running import BLOCKED, DONE, FAILED, KEPT, Outcome
from hbn_foundation.sweeps.specs import BASE, FINETUNE
from hbn_foundation.training.supervision.heartbeat import Beat, read_beat

WORDS = {BASE: "bases", FINETUNE: "fine-tunings"}


class Live:
    """Shows a sweep: a table on a terminal, a line now and then elsewhere.

    Parameters
    ----------
    bases, finetunings
        How many there are.
    work
        Folder of unfinished jobs, where their heartbeats are, if this machine sees them.
    """

    def __init__(self, bases: int, finetunings: int, work: Path | None = None) -> None:
        self.totals = {BASE: bases, FINETUNE: finetunings}
        self.work = work
        self.workers = 1
        self.dashboard: str | None = None
        self._live: Any = None
        self._place = ExitStack()
        self._started = time.monotonic()
        self._first: dict[str, tuple[float, float]] = {}  # share and moment of a job's first beat
        self._state: tuple[Mapping[str, Outcome], set[str]] = ({}, set())

    def begin(self, workers: int, dashboard: str | None) -> None:
        """Start: from now on jobs run."""
        self.workers, self.dashboard = workers, dashboard
        self._started = time.monotonic()
        if workers > 1 and may_draw():
            from rich.console import Console
            from rich.live import Live as RichLive

            self._live = RichLive(console=Console(stderr=True), refresh_per_second=2)
            self._place.enter_context(drawing(self._live))
        else:
            self._place.enter_context(working(lambda: self.line(*self._state)))

    def show(
        self, outcomes: Mapping[str, Outcome], running: set[str], at_once: bool = False
    ) -> None:
        """Show how far the sweep is."""
        self._state = (outcomes, running)
        if self._live is not None:
            self._live.update(self.table(outcomes, running))
        elif at_once:
            say(self.line(outcomes, running))

    def close(self) -> None:
        """Leave the table as it is."""
        self._live = None
        self._place.close()

    def beats(self, running: set[str]) -> dict[str, Beat]:
        """Last beats of the jobs that train now."""
        if self.work is None:
            return {}
        found = {name: read_beat(self.work / name) for name in sorted(running)}
        return {
            name: beat
            for name, beat in found.items()
            if beat is not None and beat.steps and (beat.age or 0.0) < SECONDS_OF_A_BEAT
        }

    def rows(self, outcomes: Mapping[str, Outcome], running: set[str]) -> dict[str, Counter[str]]:
        """Count jobs of each kind by their state."""
        found = {BASE: Counter[str](), FINETUNE: Counter[str]()}
        for name, outcome in outcomes.items():
            found[name.partition("-")[0]][outcome.status] += 1
        for name in running:
            found[name.partition("-")[0]]["running"] += 1
        return found

    def seconds_left(
        self, outcomes: Mapping[str, Outcome], beats: Mapping[str, Beat] | None = None
    ) -> float | None:
        """Time left, from what was done and how fast running jobs go; None before that is known."""
        left, now = 0.0, time.monotonic()
        for kind, total in self.totals.items():
            mine = [o for name, o in outcomes.items() if name.startswith(kind)]
            seconds = [o.seconds for o in mine if o.status == DONE]
            done = 0.0
            for name, beat in (beats or {}).items():
                share = beat.step / beat.steps
                first, began = self._first.setdefault(name, (share, now))
                if name.startswith(kind):
                    done += share
                    if share > first and len(seconds) < self.workers:
                        seconds.append((now - began) / (share - first))
            waiting = total - len(mine)
            if waiting and not seconds:
                return None
            left += max(waiting - done, 0.0) * sum(seconds) / max(len(seconds), 1)
        return left / self.workers

    def line(self, outcomes: Mapping[str, Outcome], running: set[str]) -> str:
        """One line: `sweep: bases 3 of 4, fine-tunings 10 of 48; 2 failed; 40 s left`."""
        rows = self.rows(outcomes, running)
        parts = [
            f"{WORDS[kind]} {row[DONE] + row[KEPT]:,} of {self.totals[kind]:,}"
            for kind, row in rows.items()
        ]
        text = f"sweep: {', '.join(parts)}"
        for status in (FAILED, BLOCKED):
            count = sum(row[status] for row in rows.values())
            text += f"; {count:,} {status}" if count else ""
        beats = self.beats(running)
        epochs = [f"{name} epoch {beat.epoch}/{beat.epochs}" for name, beat in beats.items()]
        text += "".join(f"; {words}" for words in epochs[:SHOWN])
        left = self.seconds_left(outcomes, beats)
        return text if not left else f"{text}; about {duration(left)} left"

    def table(self, outcomes: Mapping[str, Outcome], running: set[str]) -> Any:
        """Make the table for a terminal."""
        from rich.table import Table

        beats = self.beats(running)
        left = self.seconds_left(outcomes, beats)
        title = f"{duration(time.monotonic() - self._started)}, {self.workers} workers"
        title += "" if left is None else f", about {duration(left)} left"
        title += f", {self.dashboard}" if self.dashboard else ""
        table = Table(title=title, title_justify="left")
        for name in ("", "all", "done", "kept", "queued or running", "failed", "blocked"):
            table.add_column(name, justify="right" if name else "left")
        for kind, row in self.rows(outcomes, running).items():
            values = (self.totals[kind], row[DONE], row[KEPT], row["running"], row[FAILED],
                      row[BLOCKED])  # fmt: skip
            table.add_row(WORDS[kind], *(f"{value:,}" for value in values))
        epochs = [f"{name} epoch {beat.epoch}/{beat.epochs}" for name, beat in beats.items()]
        table.caption = "; ".join(epochs[:SHOWN]) or None
        return table
