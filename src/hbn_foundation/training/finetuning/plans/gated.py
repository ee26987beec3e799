"""The head, then the encoder only if the head is good enough."""

from __future__ import annotations

from hbn_foundation.scores import higher_is_better
from hbn_foundation.training.finetuning.plans.base import (
    NOTHING,
    Block,
    Decision,
    GradientScores,
    History,
    Plan,
    metric_of,
)
from hbn_foundation.training.finetuning.plans.scheduled import ratio_stages


class Gated(Plan):
    """Two phases with a gate between them.

    The gate is judged once the first phase is over. A gate that was passed stays passed, whatever
    the metric does afterwards; growing shares then follow by the epoch.
    """

    def is_waiting(self) -> bool:
        """Tell whether the gate is still to be judged, or a growing share to come."""
        passed = self.memory.get("passed_at")
        if passed is not None:
            stages = ratio_stages(self.params, self.backbone, passed)
            return any(self.done < stage.after < self.epochs for stage in stages)
        extends = self.params.gate_on_fail == "extend"
        longer = self.params.gate_extend_epochs if extends else 0
        return self.done < min(self.params.switch_epoch + longer, self.epochs - 1)

    def judge(
        self,
        done: int,
        history: History,
        frozen: tuple[Block, ...],
        gradient_scores: GradientScores | None,
    ) -> Decision:
        """Judge the gate, and afterwards name what is due."""
        if done < self.params.switch_epoch:
            return NOTHING
        reason = f"{done} epochs are done"
        if "passed_at" not in self.memory:
            verdict, reason = self._verdict(done, history)
            if verdict != "proceed":
                return Decision(stop=verdict == "stop", reason=reason)
            self.memory["passed_at"] = done
        stages = ratio_stages(self.params, self.backbone, self.memory["passed_at"])
        due = [name for stage in stages if stage.after <= done for name in stage.blocks]
        return Decision(tuple(due), reason=reason)

    def _verdict(self, done: int, history: History) -> tuple[str, str]:
        """Say `proceed`, `stop` or `wait`, and why."""
        name, threshold = self.params.gate_metric, self.params.gate_threshold
        value = self.judged_value(history)
        if value is None:
            text = f"gate: {name} is not known yet, wanted {threshold:g}"
        else:
            text = f"gate: {self.params.gate_value} {name} {value:.4g}, wanted {threshold:g}"
            passed = value >= threshold if higher_is_better(name) else value <= threshold
            if passed:
                return "proceed", f"{text}: passed"
        if self.params.gate_on_fail == "proceed":
            return "proceed", f"{text}: not passed, going on all the same"
        if self.params.gate_on_fail == "stop":
            # Without a value there is nothing to stop for.
            return ("wait" if value is None else "stop"), f"{text}: not passed"
        extended = done - self.params.switch_epoch
        if extended >= self.params.gate_extend_epochs:
            return "stop", f"{text}: not passed after {extended} epochs more"
        return "wait", f"{text}: not passed, the head is trained for longer"

    def judged_value(self, history: History) -> float | None:
        """Give the metric's best, last or smoothed value; None before there is one."""
        name = self.params.gate_metric
        found = [metric_of(row, name) for row in history]
        values = [value for value in found if value is not None]
        if not values:
            return None
        if self.params.gate_value == "last":
            return values[-1]
        if self.params.gate_value == "best":
            return max(values) if higher_is_better(name) else min(values)
        window = values[-self.params.gate_window :]
        return sum(window) / len(window)
