"""Training in two phases: the head on a frozen encoder, then everything at a lower rate.

The items of the description, in its order.
"""

import logging
import re
import sys
from pathlib import Path

import pytest
import torch

from finetuning_runs import AGE, dataset_of, prepared, recipe_of, tune, watched
from hbn_foundation.errors import UserError
from hbn_foundation.training.finetune import FineTuningJob, preview_finetuning
from hbn_foundation.training.finetuning_module import FineTuningModule
from hbn_foundation.training.finetuning_params import PlanParams, RateParams
from hbn_foundation.training.plans import make_plan
from hbn_foundation.training.preview import advice, preview_rates
from hbn_foundation.training.recipes import FineTuningRecipe
from hbn_foundation.training.unfreezing import Block
from runs import CPU

PROJECT = Path(__file__).parents[2]
BLOCKS = ("band_tokens", "time_tokens", "block_1", "block_2", "head")
SIZED = [Block(name, 10) for name in BLOCKS]
BACKBONE = BLOCKS[:-1]


@pytest.fixture(scope="module")
def run(short_run, data, tmp_path_factory):
    """Four epochs, the head alone in the first two: history, log lines, what a watch has seen."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("hbn_foundation")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    with pytest.MonkeyPatch.context() as patch:
        watch = watched(patch)
        _, history = tune(short_run[0], data, tmp_path_factory.mktemp("two"))
    logger.removeHandler(handler)
    return history, said, watch


def preview(epochs=15, steps=10, plan=None, rates=None):
    """Rates and trained blocks by step: two tables with a column per block."""
    plan, rates = PlanParams(**(plan or {})), RateParams(**(rates or {}))
    table = preview_rates(plan, rates, SIZED, epochs, steps)
    return (table.pivot(index="step", columns="block", values=kind) for kind in ("rate", "trained"))


def advised(epochs=15, plan=None, rates=None, **groups):
    return advice(recipe_of({"phase1_epochs": 3, **(plan or {})}, {"epochs": epochs},
                            rates=rates or {}, **groups))  # fmt: skip


def test_overview(run):
    """Phase 1 trains the head on a frozen encoder, phase 2 everything, without forgetting."""
    watch = run[2]
    assert watch.trainable == [("head",)] * 2 + [BLOCKS] * 2
    for name in BACKBONE:
        first, second, third, _, last = (epoch[name] for epoch in watch.starts)
        assert all(torch.equal(first[key], third[key]) for key in first), "frozen to the bit"
        assert any(not torch.equal(second[key], last[key]) for key in first)


def test_basic_usage(short_run, data, tmp_path):
    """Without a plan the head is trained for 3 of 15 epochs, and then all: `two_phase`."""
    small = {"batch_size": 16, "precision": "32", "early_stopping_patience": 15}
    recipe = FineTuningRecipe.model_validate({"trainer": small})
    _, history = FineTuningJob(dataset_of(data), recipe, CPU, short_run[0]).run(tmp_path, "tuned")
    assert history["trainable"].tolist() == ["head"] * 3 + [",".join(BLOCKS)] * 12
    asked = FineTuningRecipe.model_validate({"trainer": small, "plan": {"strategy": "two_phase"}})
    assert asked == recipe


def test_custom_configuration():
    """Five epochs of 20 with the head alone, head at 2e-3, encoder at 5e-6."""
    rates, trained = preview(
        20, plan={"phase1_epochs": 5},
        rates={"head_lr": 2e-3, "backbone_lr": 5e-6, "schedule": "constant"},
    )  # fmt: skip
    assert trained["block_1"].sum() == 15 * 10
    assert (rates["head"] == 2e-3).all()
    assert rates["block_1"].max() == pytest.approx(5e-6)


def test_parameters_and_their_defaults():
    """`phase1_epochs` 3, `head_lr` 1e-3; `backbone_lr` is a tenth of it, or what is given."""
    assert PlanParams().phase1_epochs == 3
    assert RateParams().head_lr == 1e-3
    assert RateParams().backbone_peak == 1e-4
    assert RateParams(backbone_lr=1e-5).backbone_peak == 1e-5


def test_phase_1(short_run, data, run):
    """Only the head has gradients, at `head_lr`; its weights begin at a good linear probe."""
    module = prepared(short_run[0], data)
    module.freeze_blocks()
    named = dict(module.model.blocks())
    for name, block in named.items():
        assert all(p.requires_grad == (name == "head") for p in block.parameters())
    assert not [p for p in named["head"].parameters() if not torch.isfinite(p).all()]
    assert run[0]["train_balanced_accuracy"].iloc[0] > 0.8, "of a head from chance it is .5"
    assert run[2].rates[0] == {**dict.fromkeys(BACKBONE, 0.0), "head": 1e-3}


def test_phase_2():
    """All blocks at rates of their own: the head at `head_lr`, the encoder at `backbone_lr`."""
    rates, trained = preview(rates={"schedule": "constant", "backbone_lr": 1e-5})
    last = rates.index[-1]
    assert trained.loc[last].all()
    assert rates.loc[last].to_dict() == {**dict.fromkeys(BACKBONE, 1e-5), "head": 1e-3}


def test_training_flow():
    """Of 15 epochs the first three have the encoder frozen, without a rate; the switch is at 3."""
    rates, trained = preview()
    epoch = trained.index // 10
    assert trained["head"].all()
    for name in BACKBONE:
        assert trained[name].tolist() == (epoch >= 3).tolist()
        assert (rates[name][epoch < 3] == 0).all()


def test_methods_of_the_model(short_run, data):
    """Methods of the model: freeze, unfreeze, the mode of a phase, groups of parameters."""
    model = prepared(short_run[0], data).model
    model.freeze_backbone()
    assert model.trainable() == ("head",)
    model.unfreeze_backbone()
    assert model.trainable() == BLOCKS
    for phase, expected in ((1, ("head",)), (2, BLOCKS)):
        model.set_progressive_unfreezing_mode(phase)
        assert model.trainable() == expected
    with pytest.raises(ValueError, match=r"phase 3: expected 1 .* or 2"):
        model.set_progressive_unfreezing_mode(3)
    groups = model.get_param_groups(head_lr=2e-3, backbone_lr=5e-6)
    assert {group["block"]: group["lr"] for group in groups} == {
        **dict.fromkeys(BACKBONE, 5e-6), "head": 2e-3
    }  # fmt: skip


def test_the_trainer_switches_by_epochs_with_one_optimizer(run):
    """The groups are there from the first step: an optimizer made anew would forget its moments."""
    watch = run[2]
    assert len(watch.objects) == 1
    assert watch.head_steps == list(range(1, len(watch.rates) + 1))


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        ({"backbone_lr_factor": 0.21}, ("4.76 times below", "5 to 10 times below", "consider 0.1")),
        ({"backbone_lr_factor": 0.6}, ("1.67 times below",)),
        ({"backbone_lr": 9e-5}, ("11.1 times below", "consider 0.0001 (head_lr / 10)")),
        ({"backbone_lr": 2e-3}, ("2 times above",)),
        ({"backbone_lr": 2e-4}, None),
        ({"backbone_lr": 1e-4}, None),
    ],
)
def test_selection_of_rates(rates, words):
    """The head 5 to 10 times above the encoder; advice names what lies outside."""
    lines = advised(rates=rates)
    assert len(lines) == (words is not None)
    assert all(word in lines[0] for word in words or ())


def test_the_head_of_response_times_is_measured_otherwise():
    """Its best rate is 3 times the encoder's, as it does not begin at a probe."""
    head = {"kind": "distribution"}
    assert advised(rates={"backbone_lr": 3.3e-4}, head=head) == []
    (line,) = advised(rates={"backbone_lr": 9e-4}, head=head)
    assert "2 to 10 times below is usual" in line


@pytest.mark.parametrize(
    ("plan", "epochs", "words"),
    [
        ({}, 15, None),
        ({"phase1_epochs": 6}, 15, ("phase1_epochs=6", "40%", "15 to 25 %", "consider 3")),
        ({}, 30, ("10%", "consider 6")),
        # in short runs the recommended length is not complained about
        *[({"phase1_epochs": max(1, round(n / 5))}, n, None) for n in (2, 3, 5, 7, 10)],
    ],
)
def test_duration_of_the_phases(plan, epochs, words):
    """Phase 1 is 15 to 25 % of the epochs; advice names what lies outside."""
    lines = advised(epochs, plan)
    assert len(lines) == (words is not None)
    assert all(word in lines[0] for word in words or ())


def test_monitoring(run, short_run, data, tmp_path, monkeypatch):
    """Validation metrics of every epoch, also at the switch; a drop there does not end the run."""
    history = run[0]
    assert history[["validation_loss", "balanced_accuracy", "auroc"]].notna().all(axis=None)
    assert history["trainable"].tolist() == ["head"] * 2 + [",".join(BLOCKS)] * 2
    for grace, length in (({}, 6), ({"grace_epochs": 0}, 4)):
        losses = iter([0.5, 0.4, 0.9, 0.95, 0.97, 0.8])
        monkeypatch.setattr(
            FineTuningModule, "score_validation", lambda _, losses=losses: {"loss": next(losses)}
        )
        patience = {"epochs": 6, "early_stopping_patience": 1}
        _, dropped = tune(short_run[0], data, tmp_path / str(length), plan=grace, trainer=patience)
        assert len(dropped) == length


def test_example_results(run):
    """The log names phases, groups, parameters trained, and each rate as it is at that step."""
    said = run[1]
    first, second = (number for number, line in enumerate(said) if line.startswith("phase"))
    assert said[first] == "phase 1: 1,154 parameters are trained, 0% of the encoder's 83,496: head"
    assert said[second] == (
        "phase 2 (2 epochs are done): 84,650 parameters are trained, 100% of the encoder's "
        "83,496: band_tokens, time_tokens, block_1, block_2, head"
    )
    before, after = ([line.split() for line in said[n + 1 : n + 6]] for n in (first, second))
    assert [row[0] for row in before] == [row[0] for row in after] == list(BLOCKS)
    assert [row[-1] for row in before] == ["frozen"] * 4 + ["lr=1.00e-03"]
    assert before[4][1:3] == [f"{18 * 32 * 2 + 2:,}", "parameters"]
    # half of the steps are done, so rates have fallen to half of their peaks
    assert after[4][-1] == "lr=5.05e-04"
    watch = run[2]
    top = watch.rates[8]["block_1"]
    for row in after[:4]:
        assert " ".join(row[3:]) == f"lr=0.00e+00, rising to {top:.2e} over 2 steps"
    assert watch.rates[6]["head"] == pytest.approx(5.05e-4)


def test_comparison_with_standard_training():
    """`strategy: full` trains all from the start with one set of parameters."""
    rates, trained = preview(plan={"strategy": "full"}, rates={"schedule": "constant"})
    assert trained.all(axis=None)
    assert (rates["block_1"] == 1e-4).all()


def test_extension_layer_by_layer():
    """`strategy: gradual` unfreezes one more block every few epochs, from the back."""
    _, trained = preview(plan={"strategy": "gradual", "every": 2})
    counts = [int(trained.loc[epoch * 10].sum()) for epoch in range(10)]
    assert counts == [1, 1, 1, 2, 2, 3, 3, 4, 4, 5]


@pytest.mark.parametrize(
    ("params", "losses", "unfrozen"),
    [
        ({"strategy": "plateau", "plateau_patience": 1}, (0.9, 0.95, 0.95), ("block_2",)),
        ({"strategy": "gated", "gate_metric": "loss", "gate_threshold": 0.5, "phase1_epochs": 1},
         (0.9, 0.95, 0.5), BACKBONE),
    ],
)  # fmt: skip
def test_extension_by_validation_metrics(params, losses, unfrozen):
    """`plateau` unfreezes when a metric stalls, `gated` when it is good enough."""
    plan = make_plan(PlanParams(**params), SIZED, 12)
    history = []
    for epoch, loss in enumerate(losses, 1):
        history.append({"epoch": epoch, "validation_loss": loss})
        decision = plan.after_epoch(history, {"head"})
        assert decision.unfreeze == (unfrozen if epoch == 3 else ())


def listed(*schedules, epochs=5):
    """Phases of five epochs, the second of which unfreezes all."""
    phases = [{"epochs": epochs, "schedule": schedule} for schedule in schedules]
    phases[1]["unfreeze"] = ["all"]
    return {"strategy": "phases", "phases": phases}


@pytest.mark.parametrize("second", ["cosine", "onecycle", "constant", "linear_warmup_cosine"])
def test_extension_a_schedule_per_phase(second):
    """`phases[].schedule`: each goes through its own shape, from its phase to the next one's."""
    found, _ = preview(10, plan=listed("constant", second), rates={"ramp_epochs": 0})
    alone, _ = preview(5, plan={"strategy": "full"}, rates={"schedule": second})
    assert (found["head"][:50] == 1e-3).all()
    assert found["head"][50:].tolist() == alone["head"].tolist()
    assert found["block_1"][50:].tolist() == alone["block_1"].tolist()
    goes_on, _ = preview(15, plan=listed(None, second, None), rates={"ramp_epochs": 0})
    assert goes_on["head"][:50].tolist() == preview_of("cosine", 5)
    assert goes_on["head"][50:].tolist() == preview_of(second, 10)


def preview_of(schedule, epochs):
    rates, _ = preview(epochs, plan={"strategy": "full"}, rates={"schedule": schedule})
    return rates["head"].tolist()


def test_a_plateau_of_a_phase_counts_its_own_validations_alone():
    """What the schedule before has seen does not lower the rates of `reduce_on_plateau`."""
    plan = listed("constant", "reduce_on_plateau")
    rates, _ = preview(10, plan=plan, rates={"plateau_patience": 1, "ramp_epochs": 0})
    # the preview's loss never gets better: the first value is the best, two more are tolerated
    levels = [round(rates["head"].loc[epoch * 10] / 1e-3, 3) for epoch in range(10)]
    assert levels == [1.0] * 8 + [0.5, 0.5]


def test_onecycle_in_the_second_phase_is_advised_against_and_done(
    short_run, data, tmp_path, caplog, monkeypatch
):
    """Told why it is a bad idea; trained as asked, in the rates that the preview draws."""
    caplog.set_level(logging.INFO, logger="hbn_foundation")
    plan = listed(None, "onecycle", epochs=2)
    (line,) = [line for line in advised(4, plan) if "onecycle" in line]
    assert line.startswith("plan.phases.1.schedule=onecycle: rates begin at 1/25 of their peaks")
    assert "cosine" in line
    watch = watched(monkeypatch)
    tune(short_run[0], data, tmp_path, plan=plan, rates={"ramp_epochs": 0})
    steps = len(watch.rates) // 4
    said = [record.getMessage() for record in caplog.records]
    assert f"schedule onecycle: begins, as this phase's own, for {2 * steps} steps" in said
    rates, _ = preview(4, steps, plan, {"ramp_epochs": 0})
    assert [row["head"] for row in watch.rates] == pytest.approx(rates["head"].tolist())
    assert watch.rates[2 * steps]["head"] == pytest.approx(1e-3 / 25)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of the user's, and the name of a strategy in it."""

    def written(text, name="Mine"):
        (tmp_path / "own_plans.py").write_text(
            "from hbn_foundation.training.unfreezing import Decision, Plan\n" + text
        )
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "own_plans", raising=False)
        return f"own_plans:{name}"

    return written


EVERY_SECOND = """
class Mine(Plan):
    def judge(self, at):
        if at.done % 2 == 0 and at.frozen:
            return Decision((at.frozen[-1].name,), reason=f"{at.done} epochs are even")
        return Decision()
"""


def test_extension_a_strategy_of_ones_own(own, short_run, data, tmp_path, caplog):
    """`strategy: package.module:Class`, a subclass of `Plan`; previewed, trained and told."""
    caplog.set_level(logging.INFO, logger="hbn_foundation")
    plan = {"strategy": own(EVERY_SECOND)}
    _, trained = preview(8, plan=plan)
    assert [int(trained.loc[epoch * 10].sum()) for epoch in range(8)] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert advised(plan=plan) == []
    _, history = tune(short_run[0], data, tmp_path / "run", plan=plan)
    assert history["trainable"].tolist() == ["head"] * 2 + ["block_2,head"] * 2
    assert "phase 2 (2 epochs are even)" in caplog.text


NOTES_COLUMNS = """
class Mine(Plan):
    metric_key = "gate_metric"
    seen = []
    def judge(self, at):
        self.seen.append(sorted(set(at.history[-1])))
        return Decision()
"""


def test_a_strategy_is_previewed_on_the_columns_of_a_training(own, short_run, data, tmp_path):
    """So that what can be judged in training can be previewed, and is what the line names."""
    plan = {"strategy": own(NOTES_COLUMNS), "gate_metric": "train_f1"}
    more = {"more_targets": {"age": {"label": AGE}}}
    recipe = recipe_of(plan, **more)
    assert recipe.judged_metric == "train_f1"
    preview_finetuning(short_run[0], dataset_of(data), recipe)
    previewed = set(sys.modules["own_plans"].Mine.seen[-1])
    tune(short_run[0], data, tmp_path / "run", plan=plan, **more)
    trained = set(sys.modules["own_plans"].Mine.seen[-1])
    assert {"validation_loss", "gap", "age_r2", "update_head", "phase"} <= trained <= previewed


def test_the_example_of_the_documentation(own):
    """The strategy in `docs/fine-tuning.md` is one: the next block in each good epoch."""
    page = (PROJECT / "docs" / "fine-tuning.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.S)
    strategy = own(example, "OneMoreWhenGood")
    plan = make_plan(PlanParams(strategy=strategy), SIZED, 12)
    trained, history = {"head"}, []
    for epoch, value in enumerate((0.7, 0.9, 0.75, 0.95), 1):
        history.append({"epoch": epoch, "balanced_accuracy": value})
        trained |= set(plan.after_epoch(history, trained).unfreeze)
    assert trained == {"head", "block_2", "block_1"}


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        (EVERY_SECOND.replace("at.frozen[-1].name", "'blok_2'"), "Mine",
         ", after epoch 2: no block blok_2; the model has band_tokens, time_tokens"),
        ("class Mine(Plan):\n    def start(self):\n        return {'tail'}\n", "Mine",
         ", at the start: no block tail; the model has band_tokens"),
        ("class Mine(Plan):\n    def start(self):\n        return {'block_2'}\n", "Mine",
         "start leaves out head, which is always trained"),
        ("class Mine(Plan):\n    def judge(self, at):\n        return ['block_1']\n", "Mine",
         "judge returns ['block_1']; expected a hbn_foundation.training.unfreezing.Decision"),
        (EVERY_SECOND.replace("(at.frozen[-1].name,)", "'block_2'"), "Mine",
         ", after epoch 2: unfreeze='block_2'; expected a tuple of blocks, Decision(('block_2',))"),
        ("class Mine(Plan):\n    def judge(self, at):\n        return at.history[7]\n", "Mine",
         ", after epoch 1: judge fails with IndexError: list index out of range"),
        ("class Mine(Plan):\n    metric_key = 'my_metric'\n", "Mine",
         "metric_key is 'my_metric'; expected gate_metric or plateau_metric"),
        ("", "Mine", "no attribute 'Mine'; expected package.module:Class, a subclass of"),
        ("class Mine: ...", "Mine", "Mine is no such class; expected package.module:Class"),
        ("import nowhere_at_all", "Mine", "No module named 'nowhere_at_all'; expected package"),
        ("1 / 0", "Mine", "ZeroDivisionError: division by zero; expected package.module:Class"),
    ],
)  # fmt: skip
def test_a_strategy_that_cannot_be_carried_out_is_one_line(own, text, name, words):
    """Unknown blocks, nothing to import, no plan: key, value and what is expected."""
    strategy = own(text, name)
    with pytest.raises(UserError) as error:
        preview(6, plan={"strategy": strategy})
    assert str(error.value).startswith(f"plan.strategy={strategy}")
    assert words in str(error.value)
    assert "\n" not in str(error.value)
