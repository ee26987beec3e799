"""What is silence, and what to try next: the rules, without processes."""

from __future__ import annotations

from hbn_foundation.training.supervision import heartbeat
from hbn_foundation.training.supervision.heartbeat import Beat
from hbn_foundation.training.supervision.params import SupervisionParams

CPU = "cpu"
SILENT, DIED, NO_RESULT, OUT_OF_MEMORY = "silent", "died", "no_result", "out_of_memory"


def silence_limit(beat: Beat, params: SupervisionParams) -> float:
    """Give the seconds of silence that are too long after a beat."""
    limits = {
        heartbeat.START: params.start,
        heartbeat.FIRST_STEP: params.first_step,
        heartbeat.EVALUATION: params.evaluation,
        heartbeat.CHECKPOINT: params.checkpoint,
        heartbeat.END: params.checkpoint,
    }
    step = max(params.step_least, params.step_factor * (beat.median_step or 0.0))
    return limits.get(beat.section, step)


class Restarts:
    """Where and with which micro-batch to go on after an incident.

    A device gets one more try when it made progress; then the CPU takes over. Attempts that
    finish no epoch are counted, and end the matter.

    Parameters
    ----------
    device
        Where the training begins.
    batch_size
        Windows per step, halved to a micro-batch when memory is short.
    max_restarts
        Most restarts without progress.
    """

    def __init__(self, device: str, batch_size: int, max_restarts: int) -> None:
        self.device = device
        self.batch_size = batch_size
        self.max_restarts = max_restarts
        self.micro_batch: int | None = None
        self.without_progress = 0
        self.restarts = 0
        self.tried_again = False

    def after(self, kind: str, progressed: bool, abandoned: bool = False) -> str | None:
        """Decide as `_after` does, and count."""
        action = self._after(kind, progressed, abandoned)
        self.restarts += action is not None
        return action

    def _after(self, kind: str, progressed: bool, abandoned: bool) -> str | None:
        """Decide what to do, and say it in a few words; None gives up.

        Parameters
        ----------
        kind
            Of the incident.
        progressed
            Whether the attempt finished an epoch.
        abandoned
            Whether the child could not be killed: its device is not used again.
        """
        if kind == OUT_OF_MEMORY:
            smaller = halve(self.micro_batch or self.batch_size, self.batch_size)
            if smaller is not None:
                self.micro_batch = smaller
                return (
                    f"again on {self.device} with {smaller} windows at once, "
                    f"{self.batch_size // smaller} times for a batch of {self.batch_size}"
                )
        self.without_progress = 0 if progressed else self.without_progress + 1
        if self.without_progress > self.max_restarts:
            return None
        if self.device == CPU:
            return None if kind == OUT_OF_MEMORY else "again on cpu from the last checkpoint"
        if progressed and not (self.tried_again or abandoned or kind == OUT_OF_MEMORY):
            self.tried_again = True
            return f"again on {self.device} from the last checkpoint"
        self.device, self.micro_batch = CPU, None
        return "on to cpu from the last checkpoint"


def halve(micro_batch: int, batch_size: int) -> int | None:
    """Give the next smaller micro-batch that divides the batch; None below one window."""
    if micro_batch == 1:
        return None
    return next(size for size in range(micro_batch // 2, 0, -1) if batch_size % size == 0)
