"""When a training counts as silent, and what is tried after an incident."""

from __future__ import annotations

from hbn_foundation.training.supervision import heartbeat
from hbn_foundation.training.supervision.heartbeat import Beat
from hbn_foundation.training.supervision.incidents import OUT_OF_MEMORY
from hbn_foundation.training.supervision.params import SupervisionParams

CPU = "cpu"
SILENT, DIED, NO_RESULT = "silent", "died", "no_result"
EVALUATION_BATCH = 256  # windows at once in an evaluation, while there is memory


def silence_limit(beat: Beat, params: SupervisionParams) -> float:
    """Give the seconds of silence that are too long after a beat."""
    if beat.section == heartbeat.END:
        return params.checkpoint
    if beat.section != heartbeat.STEP:
        return float(getattr(params, beat.section, params.start))
    return max(params.step_least, params.step_factor * (beat.median_step or 0.0))


class Restarts:
    """Where and with which batch a training restarts after an incident.

    A device gets one more try when it made progress; then the CPU takes over. Attempts that
    finish no epoch are counted, and too many of them end the training.

    Parameters
    ----------
    device
        Where the training begins.
    batch_size
        Windows of a batch, halved to a micro-batch when memory is short in training; where it is
        in an evaluation, its windows at once are halved.
    max_restarts
        Most restarts without progress.
    """

    def __init__(self, device: str, batch_size: int, max_restarts: int) -> None:
        self.device = device
        self.batch_size = batch_size
        self.max_restarts = max_restarts
        self.micro_batch: int | None = None
        self.evaluation_batch: int | None = None
        self.without_progress = 0
        self.restarts = 0
        self.retried = False

    def after(
        self, kind: str, progressed: bool, abandoned: bool = False, section: str = heartbeat.STEP
    ) -> str | None:
        """Decide what to do and return it in a few words, or None to give up.

        Parameters
        ----------
        kind
            Of the incident.
        progressed
            Whether the attempt finished an epoch.
        abandoned
            Whether the child could not be killed: its device is not used again.
        section
            Of the last beat.
        """
        smaller = self._with_less_memory(section) if kind == OUT_OF_MEMORY else None
        action = smaller or self._after(kind, progressed, abandoned)
        self.restarts += action is not None
        return action

    def _with_less_memory(self, section: str) -> str | None:
        """Halve what was too large; None where it cannot be smaller."""
        if section == heartbeat.EVALUATION:
            half = halve(self.evaluation_batch or EVALUATION_BATCH)
            if half is not None:
                self.evaluation_batch = half
                return f"restart on {self.device}, evaluating {half} windows at once"
            return None
        half = halve(self.micro_batch or self.batch_size)
        if half is None:
            return None
        self.micro_batch = half
        return (
            f"restart on {self.device} with {half} windows at once, "
            f"{-(-self.batch_size // half)} times for a batch of {self.batch_size}"
        )

    def _after(self, kind: str, progressed: bool, abandoned: bool) -> str | None:
        self.without_progress = 0 if progressed else self.without_progress + 1
        if self.without_progress > self.max_restarts:
            return None
        if self.device == CPU:
            return None if kind == OUT_OF_MEMORY else "restart on cpu from the last checkpoint"
        if progressed and not (self.retried or abandoned or kind == OUT_OF_MEMORY):
            self.retried = True
            return f"restart on {self.device} from the last checkpoint"
        self.device, self.micro_batch, self.evaluation_batch = CPU, None, None
        return "restart on cpu from the last checkpoint"


def halve(size: int) -> int | None:
    """Give half of so many windows, rounded up; of one there is none."""
    return (size + 1) // 2 if size > 1 else None
