"""One live table of a sweep: what is done, runs, failed, and the time left."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from hbn_foundation.progress import say
from hbn_foundation.sweeps.running import BLOCKED, DONE, FAILED, KEPT, Outcome
from hbn_foundation.sweeps.specs import BASE, FINETUNE

SECONDS_BETWEEN_LINES = 10.0
WORDS = {BASE: "bases", FINETUNE: "fine-tunings"}


class Live:
    """Shows a sweep: a table on a terminal, a line now and then elsewhere.

    Parameters
    ----------
    bases, finetunings
        How many there are.
    """

    def __init__(self, bases: int, finetunings: int) -> None:
        self.totals = {BASE: bases, FINETUNE: finetunings}
        self.workers = 1
        self.dashboard: str | None = None
        self._live: Any = None
        self._started = self._said = time.monotonic()
        self._last = ""

    def begin(self, workers: int, dashboard: str | None) -> None:
        """Start: from now on jobs run."""
        self.workers, self.dashboard = workers, dashboard
        self._started = self._said = time.monotonic()
        if sys.stderr.isatty() and workers > 1:
            from rich.console import Console
            from rich.live import Live as RichLive

            self._live = RichLive(console=Console(stderr=True), refresh_per_second=2)
            self._live.start()

    def show(
        self, outcomes: Mapping[str, Outcome], running: set[str], at_once: bool = False
    ) -> None:
        """Show how far the sweep is."""
        if self._live is not None:
            self._live.update(self.table(outcomes, running))
            return
        now = time.monotonic()
        if not at_once and now - self._said < SECONDS_BETWEEN_LINES:
            return
        line = self.line(outcomes, running)
        if line != self._last:
            self._said, self._last = now, line
            say(line)

    def say(self, text: str) -> None:
        """Tell a line; the handlers of the log write past the table, so it steps aside."""
        if self._live is None:
            say(text)
            return
        self._live.transient = True
        self._live.stop()
        say(text)
        self._live.transient = False
        self._live.start()

    def close(self) -> None:
        """Leave the table as it is."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def rows(self, outcomes: Mapping[str, Outcome], running: set[str]) -> dict[str, Counter[str]]:
        """Count jobs of each kind by their state."""
        found = {BASE: Counter[str](), FINETUNE: Counter[str]()}
        for name, outcome in outcomes.items():
            found[name.partition("-")[0]][outcome.status] += 1
        for name in running:
            found[name.partition("-")[0]]["running"] += 1
        return found

    def seconds_left(self, outcomes: Mapping[str, Outcome]) -> float | None:
        """Time left, from the mean of what was done; None before anything is."""
        left = 0.0
        for kind, total in self.totals.items():
            mine = [o for name, o in outcomes.items() if name.startswith(kind)]
            done = [o.seconds for o in mine if o.status == DONE]
            waiting = total - len(mine)
            if waiting and not done:
                return None
            left += waiting * sum(done) / max(len(done), 1)
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
        left = self.seconds_left(outcomes)
        return text if not left else f"{text}; about {left:.0f} s left"

    def table(self, outcomes: Mapping[str, Outcome], running: set[str]) -> Any:
        """Make the table for a terminal."""
        from rich.table import Table

        left = self.seconds_left(outcomes)
        minutes = (time.monotonic() - self._started) / 60
        title = f"{minutes:.1f} min, {self.workers} workers"
        title += "" if left is None else f", about {left / 60:.1f} min left"
        title += f", {self.dashboard}" if self.dashboard else ""
        table = Table(title=title, title_justify="left")
        for name in ("", "all", "done", "kept", "queued or running", "failed", "blocked"):
            table.add_column(name, justify="right" if name else "left")
        for kind, row in self.rows(outcomes, running).items():
            values = (self.totals[kind], row[DONE], row[KEPT], row["running"], row[FAILED],
                      row[BLOCKED])  # fmt: skip
            table.add_row(WORDS[kind], *(f"{value:,}" for value in values))
        return table
