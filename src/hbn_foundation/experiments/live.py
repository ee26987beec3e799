"""How far an experiment is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from hbn_foundation.experiments.job import BLOCKED, DONE, FAILED, KEPT, Job, Outcome
from hbn_foundation.progress import bar, drawing, duration, may_draw, say, working
from hbn_foundation.training.supervision.heartbeat import Beat, read_beat

WORDS = {"base": "bases", "finetune": "fine-tunings", "encoder": "encoders", "probe": "folds",
         "challenge": "folds", "comparison": "runs", "frozen": "fits",
         "trained": "trainings"}  # fmt: skip
SECONDS_OF_A_BEAT = 120.0  # an older one is of a training that was killed
SHOWN = 4  # trainings whose epochs are told


class Live:
    """Shows how many jobs of each kind are done, the epochs of those under way, the time left.

    Parameters
    ----------
    name
        Of the experiment.
    jobs
        All of them.
    work
        Folder of unfinished jobs, where their heartbeats are, if this machine sees them.
    """

    def __init__(self, name: str, jobs: Iterable[Job], work: Path) -> None:
        self.name, self.work = name, work
        self.totals = Counter(job.kind for job in jobs)
        self.workers = 1
        self.begun = False
        self._place = ExitStack()
        self._state: tuple[Mapping[str, Outcome], set[str]] = ({}, set())

    def begin(self, workers: int) -> None:
        """Start: from now on jobs run."""
        self.workers, self.begun = workers, True
        self._place.enter_context(working(self.line))
        if workers > 1 and may_draw():
            total = sum(self.totals.values())
            shown = bar(self.name, lambda: (len(self._state[0]), total), self.line)
            self._place.enter_context(drawing(shown))

    def show(self, outcomes: Mapping[str, Outcome], running: set[str]) -> None:
        """Note how far the experiment is."""
        self._state = outcomes, running

    def close(self) -> None:
        """Say how far it came, and leave the terminal."""
        self._place.close()
        if self.begun:
            say(self.line())

    def beats(self) -> dict[str, Beat]:
        """Last beats of the jobs that train now."""
        found = {name: read_beat(self.work / name) for name in sorted(self._state[1])}
        return {
            name: beat
            for name, beat in found.items()
            if beat is not None and beat.steps and (beat.age or 0.0) < SECONDS_OF_A_BEAT
        }

    def seconds_left(self, beats: Mapping[str, Beat]) -> float | None:
        """Time left: what running trainings say themselves, and the mean of those done for others.

        None before any of a kind is done.
        """
        outcomes, left, longest = self._state[0], 0.0, 0.0
        for kind, total in self.totals.items():
            mine = [o for name, o in outcomes.items() if name.startswith(f"{kind}-")]
            seconds = [o.seconds for o in mine if o.status == DONE]
            own = [beat for name, beat in beats.items() if name.startswith(f"{kind}-")]
            running = [beat.seconds_left for beat in own if beat.seconds_left is not None]
            waiting = total - len(mine) - len(running)
            if waiting > 0 and not seconds:
                return None
            longest = max([longest, *running])
            left += sum(running) + max(waiting, 0) * sum(seconds) / max(len(seconds), 1)
        return max(left / self.workers, longest)

    def line(self) -> str:
        """One line: `sweep: bases 3 of 4, fine-tunings 10 of 48; 2 failed; about 40 s left`."""
        states = Counter((name.partition("-")[0], o.status) for name, o in self._state[0].items())
        parts = [
            f"{WORDS.get(kind, kind)} {states[kind, DONE] + states[kind, KEPT]:,} of {total:,}"
            for kind, total in self.totals.items()
        ]
        text = f"{self.name}: {', '.join(parts)}"
        for status in (FAILED, BLOCKED):
            count = sum(states[kind, status] for kind in self.totals)
            text += f"; {count:,} {status}" if count else ""
        beats = self.beats()
        epochs = [f"{name} epoch {beat.epoch}/{beat.epochs}" for name, beat in beats.items()]
        text += "".join(f"; {words}" for words in epochs[:SHOWN])
        left = self.seconds_left(beats)
        return text if not left else f"{text}; about {duration(left)} left"
