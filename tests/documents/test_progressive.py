"""Two phases with a gate between them, item by item of the document on progressive fine-tuning."""

import json
import logging
import math
from functools import partial

import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from finetuning_runs import AGE, prepared, scripted, tune
from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.recipes import Challenge1Recipe, LabelRecipe
from hbn_foundation.evaluation.report.finetuning import phases_table
from hbn_foundation.experiments.params import ComparisonParams
from hbn_foundation.training.callbacks.progress import describe_epoch
from hbn_foundation.training.plans import not_passed
from hbn_foundation.training.preview import advice
from hbn_foundation.training.rates import peaks
from hbn_foundation.training.unfreezing import Block, within_share
from kedro_project import PROJECT
from plan_courses import BACKBONE, BLOCKS, NAMES, accuracies, carried_out, metrics, plan_of
from runs import same

JUDGES_F1 = {"strategy": "gated", "gate_metric": "f1", "gate_threshold": 0.8}
STOPS = {"gate_on_fail": "stop"}
OPEN, STOP = {3: BACKBONE}, {3: "stop"}


def gated(**params):
    return plan_of(strategy="gated", gate_threshold=0.8, **params)


def configured() -> LabelRecipe:
    """The environment `progressive`, where it differs from the defaults of the models."""
    text = (PROJECT / "conf" / "progressive" / "parameters.yml").read_text()
    return LabelRecipe.model_validate(yaml.safe_load(text)["finetuning"])


MARGIN = {"margin": "cosface", "margin_warmup_steps": 5}


@pytest.fixture(scope="module")
def stage_1(short_run, data, tmp_path_factory):
    """The head alone, trained with a margin: checkpoint and history."""
    folder = tmp_path_factory.mktemp("stage_1")
    plan = {"strategy": "head_only"}
    return tune(short_run[0], data, folder, head=MARGIN, plan=plan, trainer={"epochs": 1})


def test_the_command_of_the_document_is_an_environment():
    """`--freeze_backbone --unfreeze_backbone_epoch 11 --margin_method cosface --use_amp …`."""
    recipe = configured()
    plan, trainer = recipe.plan, recipe.trainer
    assert (plan.strategy, plan.switch_epoch, plan.unfreeze_backbone_epoch) == ("gated", 10, 11)
    assert (plan.gate_metric, plan.gate_threshold, plan.ratios) == ("f1", 0.8, (0.5,))
    assert recipe.head.margin == "cosface"
    assert (trainer.epochs, trainer.monitor, trainer.precision) == (110, "f1", "auto")
    assert advice(recipe) == []
    by_hand = plan.model_copy(update={"strategy": "partial", "phase1_epochs": 1})
    assert advice(recipe.model_copy(update={"plan": by_hand, "keep_head": True})) == []


def test_rates_of_the_phases():
    """`lr 1e-4` for the head, `lr * 0.05` for the encoder."""
    rates = configured().rates
    assert rates.head_lr == 1e-4
    assert rates.backbone_peak == pytest.approx(5e-6)


def test_the_epoch_of_the_unfreezing_is_counted_from_one():
    """`--unfreeze_backbone_epoch 11`: unfrozen in epoch 11, after ten epochs with the head."""
    at_eleven = {"unfreeze_backbone_epoch": 11, "epochs": 20}
    ready = accuracies(*[0.9] * 12)
    for plan in (gated(**at_eleven), plan_of(strategy="two_phase", **at_eleven)):
        assert plan.start() == {"head"}
        assert carried_out(plan, ready) == {10: BACKBONE}
    assert carried_out(plan_of(epochs=11, unfreeze_backbone_epoch=11), ready) == {10: BACKBONE}


@pytest.mark.parametrize(
    ("params", "rows", "expected"),
    [
        *[({"gate_on_fail": what}, accuracies(0.7, 0.75, 0.85, 0.9, 0.9), OPEN)
          for what in ("extend", "stop", "proceed")],
        # the threshold itself is enough
        *[({"gate_value": value, **STOPS}, accuracies(*[level] * 3), found)
          for value in ("best", "last", "smoothed")
          for level, found in ((0.8, OPEN), (0.7999, STOP))],
        # for a loss lower is better
        ({"gate_metric": "loss", **STOPS}, metrics("validation_loss", 1.0, 0.9, 0.8), OPEN),
        ({"gate_metric": "loss", **STOPS}, metrics("validation_loss", 1.0, 0.9, 0.81), STOP),
        # the head gets more time, which comes to an end; the last epoch of it counts
        ({"gate_value": "last"}, accuracies(0.5, 0.6, 0.7, 0.75, 0.82, 0.5), {5: BACKBONE}),
        ({"gate_extend_epochs": 4}, accuracies(*[0.5] * 10), {7: "stop"}),
        ({"gate_extend_epochs": 2}, accuracies(0.5, 0.5, 0.5, 0.5, 0.9, 0.9), {5: BACKBONE}),
        ({"gate_on_fail": "proceed"}, accuracies(*[0.5] * 6), OPEN),
        # one lucky epoch
        *[({"gate_value": value, **STOPS}, accuracies(*rows), found)
          for value, rows, found in (
              ("best", (0.5, 0.9, 0.5), OPEN),
              ("last", (0.5, 0.9, 0.5), STOP),
              ("smoothed", (0.5, 0.9, 0.5), STOP),
              ("last", (0.5, 0.5, 0.9), OPEN),
              ("smoothed", (0.5, 0.5, 0.9), STOP),
              ("smoothed", (0.75, 0.8, 0.86), OPEN),
          )],
        # without a value there is nothing to judge
        (STOPS, [{}, {}, {}, {}, *accuracies(0.9), {}], {5: BACKBONE}),
    ],
)  # fmt: skip
def test_the_second_phase_has_a_condition(params, rows, expected):
    """Phase 2 begins where the metric of phase 1 is at least the threshold."""
    assert carried_out(gated(**params), rows) == expected


def test_a_gate_stays_passed():
    """Growing shares follow by the epoch, although the metric has fallen; also after a resume."""
    params = {"unfreeze_ratio": (0.5, 1.0), "stage_epochs": 2, "gate_value": "last"}
    rows = accuracies(0.7, 0.7, 0.85, 0.2, 0.2, 0.2)
    expected = {3: ("block_3", "block_4"), 5: NAMES[:4]}
    assert carried_out(gated(**params), rows) == expected
    first, second = gated(**params), gated(**params)
    assert carried_out(first, rows[:3]) == {3: expected[3]}
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    history = [{"epoch": epoch + 1, **row} for epoch, row in enumerate(rows)]
    trained = {"head", *expected[3]}
    assert second.after_epoch(history[:4], trained, None).unfreeze == ()
    assert second.after_epoch(history[:5], trained, None).unfreeze == expected[5]


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=12), st.floats(0.001, 1))
def test_no_more_of_the_encoder_is_unfrozen_than_asked(sizes, share):
    """`unfreeze_ratio`: from the back, at most this share of the parameters, one block at least."""
    blocks = [Block(f"b{number}", size) for number, size in enumerate(sizes)]
    names = within_share(blocks, share)
    assert names == tuple(block.name for block in reversed(blocks))[: len(names)]
    assert len(names) == 1 or sum(sizes[-len(names) :]) <= share * sum(sizes) * (1 + 1e-6)
    if len(names) < len(sizes):  # and no block less than that
        assert sum(sizes[-len(names) - 1 :]) > share * sum(sizes)


def test_half_of_the_encoder_by_default_and_less_by_one_parameter(
    short_run, data, tmp_path, caplog
):
    """`unfreeze_ratio=0.3`; the log names the blocks and their share."""
    caplog.set_level(logging.INFO, logger="hbn_foundation")
    assert carried_out(plan_of(strategy="partial"), [{}] * 4) == {3: ("block_3", "block_4")}
    fewer = plan_of(strategy="partial", unfreeze_ratio=0.3)
    assert carried_out(fewer, [{}] * 4) == {3: ("block_4",)}
    tune(short_run[0], data, tmp_path, plan={"strategy": "partial", "phase1_epochs": 3})
    (line,) = [text for text in caplog.messages if text.startswith("phase 2")]
    share = float(line.split("trained, ")[1].split("%")[0])
    assert 0 < share <= 50
    assert line.endswith("block_2, head")


def test_what_is_monitored(stage_1):
    """Monitoring: F1, training and validation loss, Fisher ratio, learning rate, by epoch."""
    history = stage_1[1]
    for column in ("f1", "train_loss", "validation_loss", "gap", "fisher_ratio", "learning_rate"):
        assert history[column].notna().all(), column
    assert history["trainable"].tolist() == ["head"]


def test_an_epoch_shows_the_judged_metric_and_no_loss_twice():
    """Monitoring: validation F1, training loss, validation loss."""
    row = {"epoch": 1, "train_loss": 0.5, "validation_loss": 0.4, "f1": 0.75, "auroc": 0.8,
           "windows_per_second": 100.0, "device": "cpu"}  # fmt: skip
    line = describe_epoch(row, 9, judged="f1")
    assert line.startswith("epoch 1 of 9: loss 0.500, validation 0.400, f1 0.750, AUROC 0.800, ")
    assert describe_epoch(row, 9, judged="loss").count("0.400") == 1
    accuracy = {**row, "accuracy": 0.625, "trivial_accuracy": 0.5}
    assert describe_epoch(accuracy, 9, judged="accuracy").count("0.625") == 1


def history_of(values):
    """Epochs of phases by the values of f1."""
    found = [(number, value) for number, phase in enumerate(values, 1) for value in phase]
    table = pd.DataFrame(found, columns=["phase", "f1"])
    decision = "gate: phase 1 best f1 0.79 < 0.8"
    return table.assign(epoch=range(1, len(found) + 1), decision=decision)


def test_the_table_of_the_phases():
    """Expected: F1 0.776 at first, 0.80-0.82 after phase 1, 0.82-0.85+ after phase 2."""
    recipe = configured()
    table = phases_table(history_of([(0.776, 0.81, 0.8), (0.815, 0.82)]), recipe)
    assert [row.cells for row in table.rows] == [
        ["1", "1 to 3", "0.776", "0.810", "0.800", ">= 0.8, reached"],
        ["2", "4 to 5", "0.815", "0.820", "0.820", ">= 0.82, reached"],
    ]
    closed = phases_table(history_of([(0.776, 0.79), ()]), recipe)
    assert closed.rows[0].cells[-1] == ">= 0.8, not reached"
    assert closed.rows[1].cells == ["2", "not begun", "", "", "", ">= 0.82, not reached"]
    assert list(closed.notes) == ["gate: phase 1 best f1 0.79 < 0.8"]
    nothing = configured().model_copy(update={"aims": ()})
    assert len(phases_table(history_of([(math.nan,), ()]), nothing).rows) == 1


def test_aims_are_of_labels_whose_report_has_the_table():
    """The challenges' reports have no table of phases, so there aims would have no effect."""
    with pytest.raises(UserError, match="aims"):
        Challenge1Recipe.model_validate({"aims": [0.8]})


def test_what_to_try_where_the_first_phase_does_not_suffice():
    """Rates `5e-5` or `2e-4`, 15 to 20 epochs in phase 1, another base."""
    recipe = configured()
    line = not_passed(recipe.plan, recipe.rates.head_lr)
    assert "rates.head_lr=5e-05 or 0.0002" in line
    assert "plan.unfreeze_backbone_epoch=16 to 21" in line  # 15 to 20 epochs with the head alone
    assert "another foundation checkpoint" in line


@pytest.fixture
def tune_here(short_run, data, tmp_path):
    """Fine-tune the short run's encoder."""
    return partial(tune, short_run[0], data, tmp_path)


@pytest.mark.parametrize(
    ("params", "values", "words"),
    [
        ({}, [0.7, 0.75], ["best f1 0.7 < 0.8, judged after epoch 2",
                           "best f1 0.75 < 0.8: not passed, at most 3 more with the head alone"]),
        ({}, [0.7, 0.81], ["phase 2 (gate: phase 1 best f1 0.81 >= 0.8: passed)"]),
        (STOPS, [0.7, 0.75], ["best f1 0.75 < 0.8: not passed", "training stopped after epoch 2",
                              "try rates.head_lr=5e-05 or 0.0002"]),
        ({"gate_on_fail": "proceed"}, [0.7, 0.75],
         ["phase 2 (gate: phase 1 best f1 0.75 < 0.8: not passed, the encoder is unfrozen all",
          "try rates.head_lr=5e-05 or 0.0002"]),
    ],
)  # fmt: skip
def test_a_gate_says_what_it_does(tune_here, caplog, monkeypatch, params, values, words):
    """ "Stage 1 F1=… >= 0.80": waiting, passing, failing, stopping, proceeding, with the value."""
    caplog.set_level(logging.INFO, logger="hbn_foundation")
    scripted(monkeypatch, [*values, 0.7], "f1")
    plan = {**JUDGES_F1, "unfreeze_backbone_epoch": 3, **params}
    checkpoint, history = tune_here(plan=plan, trainer={"epochs": 3}, rates={"head_lr": 1e-4})
    said = "\n".join(caplog.messages)
    assert "gate: phase 2 begins after epoch 2 where the best f1 is >= 0.8" in said
    assert "epoch 1 of 3: loss" in said
    assert f", f1 {values[0]:.3f}, " in said  # in the line of the epoch
    for text in words:
        assert text in said, text
    closings = [line for line in caplog.messages if "was never passed" in line]
    assert len(closings) == (max(values) < 0.8)
    notes = phases_table(history, LabelRecipe.model_validate({"plan": plan})).notes
    assert [line for line in notes if "was never passed" in line] == closings
    assert ("f1" in checkpoint.metadata["stopped"]) == (len(history) == 2)
    assert history["decision"].str.startswith("gate: phase 1 best f1").iloc[:2].all()


@pytest.mark.parametrize(
    ("start", "switch", "judged"),
    [("from_scratch", 2, "loss"), ("foundation", 8, "f1")],
    ids=["no plan from random weights", "over before"],
)
def test_a_gate_that_was_not_judged_is_not_called_never_passed(
    short_run, data, tmp_path, caplog, start, switch, judged
):
    """Neither by the log nor by the report, which has the metric that the run has looked at."""
    caplog.set_level(logging.INFO, logger="hbn_foundation")
    plan, trainer = {**JUDGES_F1, "phase1_epochs": switch}, {"epochs": 2, "start": start}
    _, history = tune(short_run[0], data, tmp_path, plan=plan, trainer=trainer)
    table = phases_table(history, LabelRecipe.model_validate({"plan": plan, "trainer": trainer}))
    assert f"Phases, {judged} of" in table.title
    assert "never passed" not in "\n".join([*caplog.messages, *table.notes])


def test_going_on_by_hand_with_the_head_and_its_margin(stage_1, data, tmp_path):
    """Training is continued by hand: from the fine-tuned weights, head and margin head included."""
    checkpoint = stage_1[0]
    module = prepared(checkpoint, data, head=MARGIN, keep_head=True)
    assert same(module.exported(), checkpoint.weights)
    assert module.margin_share == 1.0
    assert prepared(checkpoint, data, head=MARGIN).margin_share == 0.0
    gone_on, _ = tune(
        checkpoint, data, tmp_path, head=MARGIN, keep_head=True, plan={"strategy": "full"},
        trainer={"epochs": 1},
    )  # fmt: skip
    assert gone_on.metadata["parent_version"] == checkpoint.metadata["run_id"]
    assert gone_on.metadata["parameters"]["keep_head"] is True
    for kind in ("training_subjects", "validation_subjects"):
        assert set(checkpoint.metadata[kind]) <= set(gone_on.metadata[kind])
    scratch = prepared(checkpoint, data, head=MARGIN, keep_head=True, plan={"strategy": "scratch"})
    assert not same(scratch.exported(), checkpoint.weights)


def test_a_number_goes_on_in_its_unit(short_run, data, tmp_path):
    """Other training subjects do not move what the kept head answers."""
    store, windows, splits = data
    first, _ = tune(short_run[0], data, tmp_path, label=AGE, trainer={"epochs": 3})
    fewer = store, windows[windows["subject"] != "4"].reset_index(drop=True), splits
    targets = prepared(first, fewer, label=AGE, keep_head=True).losses.targets["main"]
    assert targets.mean == first.metadata["targets"]["mean"]
    assert prepared(first, fewer, label=AGE).losses.targets["main"].mean != targets.mean


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"head": {**MARGIN, "margin": "arcface"}},
         "keep_head: head.margin is cosface in the checkpoint and arcface here"),
        ({"head": {**MARGIN, "scale": 8.0}}, "keep_head: head.scale is 16.0"),
        ({"head": MARGIN, "label": {"kind": "task", "positive": ["arithmetic"]}},
         "keep_head: classes.main is arithmetic, rest in the checkpoint"),
        ({"head": MARGIN, "more_targets": {"age": {"label": AGE}}},
         "keep_head: classes.age is absent in the checkpoint"),
        ({}, "keep_head: head.margin is cosface"),
    ],
)  # fmt: skip
def test_another_head_is_refused_by_its_key(stage_1, data, groups, words):
    """Classes or heads that differ are one line."""
    checkpoint = stage_1[0]
    with pytest.raises(UserError, match=words):
        prepared(checkpoint, data, keep_head=True, **groups)


def test_a_head_is_kept_only_where_there_is_one_and_nobody_is_seen(short_run, stage_1, data):
    """A foundation checkpoint has none; subjects that the checkpoint has seen are no test."""
    checkpoint = stage_1[0]
    with pytest.raises(UserError, match="keep_head: the checkpoint has no head"):
        prepared(short_run[0], data, keep_head=True)
    store, windows, splits = data
    swapped = splits.assign(split=splits["split"].replace({"train": "test", "test": "train"}))
    with pytest.raises(UserError, match="was trained on 5 of the subjects"):
        prepared(checkpoint, (store, windows, swapped), head=MARGIN, keep_head=True)


def test_full_unfreezing_is_a_ratio_of_one():
    """Advanced: the whole encoder is unfrozen, at once or after growing shares."""
    assert carried_out(plan_of(strategy="partial", unfreeze_ratio=1.0), [{}] * 4) == {3: BACKBONE}
    growing = plan_of(strategy="partial", unfreeze_ratio=(0.3, 1.0), stage_epochs=1)
    assert carried_out(growing, [{}] * 5) == {3: ("block_4",), 4: BACKBONE[:-1]}


def test_each_layer_has_a_rate():
    """Advanced: groups of the optimizer, small rates for the encoder and smaller ones below."""
    rates = configured().rates.model_copy(update={"layer_decay": 0.5})
    found = peaks(BLOCKS, rates)
    assert found["head"] == 1e-4
    assert found["block_4"] == pytest.approx(5e-6)
    assert found["block_3"] == pytest.approx(2.5e-6)


def test_it_is_compared_with_fine_tuning_everything():
    """Compared with full fine-tuning, over the same folds: `finetuning_comparison`."""
    text = (PROJECT / "conf" / "progressive" / "parameters.yml").read_text()
    runs = ComparisonParams.model_validate(yaml.safe_load(text)["finetuning_comparison"]["runs"])
    assert runs.plans == ("full", "gated")
