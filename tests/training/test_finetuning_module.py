"""A fine-tuning that dies and is resumed, what it exports, and the options of its steps."""

import shutil
import time

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightning.pytorch.strategies import SingleDeviceStrategy

from finetuning_runs import (
    AGE,
    PLAN,
    dataset_of,
    gradient,
    job_of,
    prepared,
    recipe_of,
    tune,
    tune_until,
)
from hbn_foundation.training import fitting, head_fitting
from hbn_foundation.training.callbacks.phases import UnfreezingPhases
from hbn_foundation.training.finetune import preview_finetuning
from hbn_foundation.training.finetuned import load_finetuned
from hbn_foundation.training.finetuning_module import FineTuningModule
from hbn_foundation.training.supervision.link import Link, Orders
from hbn_foundation.training.supervision.run_folder import BEST, FITTED, WEIGHTS, RunFolder
from runs import Killed, check_the_same

EVERYTHING = {
    "regularisation": {"ema_decay": 0.8, "mixup": 0.4, "gain": 0.1, "noise": 0.1},
    "plan": {"strategy": "gradual", "phase1_epochs": 1, "every": 1},
    "rates": {"schedule": "reduce_on_plateau", "plateau_patience": 0},
    "head": {"margin": "arcface", "margin_warmup_steps": 5, "pooling": "attention"},
}
NO_DROPOUT = {"dropout": 0.0}
STILL = {"hide_probability": 0.0, "gain": 0.0, "noise": 0.0}


@pytest.fixture(scope="module")
def wholes(short_run, data, tmp_path_factory):
    """Runs that nothing disturbs: plain, and with everything that has a state of its own."""
    return {
        name: tune_until(short_run[0], data, tmp_path_factory.mktemp(name), None, **groups)
        for name, groups in (("plain", {}), ("everything", EVERYTHING))
    }


@pytest.mark.parametrize("name", ["plain", "everything"])
@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.95))
def test_killed_in_a_later_phase_it_ends_the_same(
    short_run, data, wholes, tmp_path_factory, name, share
):
    groups = {} if name == "plain" else EVERYTHING
    folder, sections = tmp_path_factory.mktemp("killed"), wholes[name][2]
    first = [n for n, section in enumerate(sections) if section == "checkpoint"][4]
    last = first + int(share * (len(sections) - first))
    with pytest.raises(Killed):
        tune_until(short_run[0], data, folder, last, **groups)
    assert RunFolder(folder, {}).newest()[0] is not None
    check_the_same(
        tune_until(short_run[0], data, folder, None, **groups), wholes[name], resumed=True
    )


def test_patience_and_grace_go_on_where_they_were(short_run, data, tmp_path, monkeypatch):
    """The second phase is best in its first epoch, then one is pardoned, and two are too many."""
    monkeypatch.setattr(
        FineTuningModule, "score_validation", lambda m: {"loss": 0.5 + 0.1 * m.current_epoch}
    )
    groups = {
        "plan": {"phase1_epochs": 1, "grace_epochs": 1},
        "trainer": {"epochs": 9, "early_stopping_patience": 2},
    }
    whole = tune_until(short_run[0], data, tmp_path / "whole", None, **groups)
    assert len(whole[1]) == 5
    fourth = [n for n, name in enumerate(whole[2]) if name == "checkpoint"][7]
    with pytest.raises(Killed):
        tune_until(short_run[0], data, tmp_path / "cut", fourth + 3, **groups)
    assert RunFolder(tmp_path / "cut", {}).newest()[1] == 4
    check_the_same(
        tune_until(short_run[0], data, tmp_path / "cut", None, **groups), whole, resumed=True
    )


def test_the_average_is_what_is_exported(short_run, data, tmp_path, monkeypatch):
    """Against an average taken by hand."""
    by_hand, steps = {}, 0
    followed = UnfreezingPhases.on_train_batch_end

    def noted(phases, trainer, pl_module, *more):
        nonlocal steps
        followed(phases, trainer, pl_module, *more)
        rate = min(0.9, (1 + steps) / (10 + steps))  # the first step begins the average
        steps += 1
        for name, parameter in pl_module.model.named_parameters():
            now = parameter.detach().clone()
            by_hand[name] = rate * by_hand[name] + (1 - rate) * now if name in by_hand else now

    monkeypatch.setattr(UnfreezingPhases, "on_train_batch_end", noted)
    checkpoint, _ = tune(
        short_run[0], data, tmp_path, regularisation={"ema_decay": 0.9},
        plan={"strategy": "full"}, trainer={"epochs": 1},
    )  # fmt: skip
    for name, value in by_hand.items():
        assert torch.allclose(checkpoint.weights[name], value, atol=1e-6), name
    assert all(name.startswith(("encoder.", "head.")) for name in checkpoint.weights)


def test_scratch_is_random_weights_with_the_normalisation(short_run, data):
    encoder = short_run[0].weights
    for groups in ({"plan": {"strategy": "scratch"}}, {"trainer": {"start": "from_scratch"}}):
        module = prepared(short_run[0], data, **groups)
        model = module.model.encoder
        for name, buffer in model.named_buffers():
            if f"encoder.{name}" in encoder:
                assert torch.equal(buffer, encoder[f"encoder.{name}"]), name
        different = [
            name
            for name, value in model.named_parameters()
            if value.ndim > 1 and not torch.equal(value, encoder[f"encoder.{name}"])
        ]
        assert len(different) > 5
        assert module.trainable == frozenset(module.model.sizes())
        assert set(module.curve.peaks.values()) == {module.rates.head_lr}
    kept = prepared(short_run[0], data).model.encoder
    assert all(torch.equal(v, encoder[f"encoder.{n}"]) for n, v in kept.named_parameters())


@pytest.fixture
def mixing(short_run, data, monkeypatch):
    """A module that mixes windows, and the labels that its model was given last."""

    def make(**rules):
        rules = {"mixup": 1.0, "hide_probability": 0, **rules}
        module = prepared(short_run[0], data, head={"margin": "cosface"}, regularisation=rules)
        seen = {}
        forward = type(module.model).forward

        def noted(model, signals, positions, mask, labels=None, *more):
            seen["labels"] = labels
            return forward(model, signals, positions, mask, labels, *more)

        monkeypatch.setattr(type(module.model), "forward", noted)
        return module, seen

    return make


def test_mixup_is_of_a_share_of_the_batches(mixing):
    module, seen = mixing(mixup_probability=0.5)
    batch = next(iter(module.data.training.training(16, 0)))
    torch.manual_seed(0)
    mixed = []
    for _ in range(20):
        module.step_output(batch, torch.ones(2))
        mixed.append(bool(((seen["labels"] > 0).sum(1) == 2).any()))
    assert 4 < sum(mixed) < 16


def test_mixup_shares_the_margin_between_both_classes(mixing):
    module, seen = mixing()
    batch = next(iter(module.data.training.training(16, 0)))
    torch.manual_seed(0)
    assert torch.isfinite(module.step_output(batch, torch.ones(2)).loss)
    assert torch.allclose(seen["labels"].sum(1), torch.ones(16))
    assert ((seen["labels"] > 0).sum(1) == 2).any()
    batch.mask[::2] = False  # of some windows mixup leaves no channel, which is no harm
    loss = module.step_output(batch, torch.ones(2)).loss
    loss.backward()
    assert torch.isfinite(loss)


def test_accumulated_batches_make_as_many_steps_as_are_drawn(short_run, data):
    """Fifty windows in batches of eight are six; in steps of four batches, two."""
    options = {"batch_size": 8, "accumulate_grad_batches": 4}
    module = prepared(short_run[0], data, trainer=options)
    table = preview_finetuning(short_run[0], dataset_of(data), recipe_of(trainer=options))
    assert module.data.steps_per_epoch == 2
    assert table["step"].max() + 1 == module.curve.spans[-1].end == 4 * 2
    unfrozen = table[(table["block"] == "block_2") & table["trained"]]["step"].min()
    assert unfrozen == PLAN["phase1_epochs"] * 2


@pytest.mark.parametrize("name", ["plain", "everything"])
def test_the_disk_estimate_is_what_the_largest_checkpoints_take(
    short_run, data, tmp_path, monkeypatch, name
):
    """The average of the weights, moments of all blocks, and the best weights of a phase too."""
    asked = []
    monkeypatch.setattr(fitting, "check_space", lambda _, *sizes: asked.extend(sizes))
    groups = {} if name == "plain" else EVERYTHING
    tune_until(short_run[0], data, tmp_path, None, **{**groups, "plan": {"phase1_epochs": 1}})

    def size(folder):
        return sum(path.stat().st_size for path in folder.iterdir())

    weights, state, epochs = asked
    headers = 100_000  # names and numbers in the files' headers
    assert abs(max(map(size, tmp_path.glob("epoch-*"))) - state) < headers
    assert max(size(tmp_path / part) for part in (BEST, FITTED)) < weights + headers
    assert epochs == 3


@pytest.mark.parametrize("damaged", [False, True])
def test_what_is_fitted_before_the_first_step_is_fitted_once(
    short_run, data, tmp_path, monkeypatch, wholes, damaged
):
    """Killed before the first epoch was whole, and again later: bitwise the same all the same."""
    solved = []
    solve = head_fitting.start_at_probe
    monkeypatch.setattr(
        head_fitting, "start_at_probe", lambda *given: solved.append(1) or solve(*given)
    )
    for last in (len(wholes["plain"][2]) // 3, len(wholes["plain"][2]) // 2):
        with pytest.raises(Killed):
            tune_until(short_run[0], data, tmp_path, last)
        if damaged:
            (tmp_path / FITTED / WEIGHTS).write_bytes(b"half of")
    again = tune_until(short_run[0], data, tmp_path, None)
    assert len(solved) == (3 if damaged else 1)
    assert ("start" in again[2]) == damaged
    check_the_same(again, wholes["plain"], resumed=True)


@pytest.mark.parametrize("label", [{}, AGE])
def test_a_head_is_solved_with_beats_between_the_parts(short_run, data, monkeypatch, label):
    """One for each strength or fold: a long fit is no silence, and a hang in one of them is."""
    beats = []
    solve = head_fitting.start_at_probe

    def noted(*given):
        return solve(*given[:-1], lambda: beats.append(given[-1]()))

    monkeypatch.setattr(head_fitting, "start_at_probe", noted)
    prepared(short_run[0], data, label=label)
    assert len(beats) >= 5


@pytest.mark.parametrize(
    ("label", "regularisation"),
    [({}, {}), (AGE, {"regression_loss": "mse"}), ({}, {"class_weights": False})],
)
@pytest.mark.parametrize("missing", [False, True])
def test_micro_batches_sum_to_the_batch(short_run, data, label, regularisation, missing):
    """Of 4 x 4 and of 16, as halved for want of memory or accumulated; of unequal ones too."""
    store, windows, splits = data
    tasks = windows["task"].to_numpy(dtype=str)
    rare = tasks == min(tasks)
    windows = windows[~rare | (np.cumsum(rare) % 4 == 0)].reset_index(drop=True)
    groups = {"label": label, "head": NO_DROPOUT, "regularisation": {**STILL, **regularisation}}
    module = prepared(short_run[0], (store, windows, splits), **groups)
    module.model.eval()  # no dropout, which differs with the size of a micro-batch
    with torch.no_grad():
        module.model.head.output.linear.weight.normal_(0, 0.1)
    training = module.data.training
    if missing:
        training.targets[::3] = torch.nan
    whole = list(training.training(16, 0))[:1]
    wanted = gradient(module, whole)
    for size in (4, 5, 1):
        module.data.micro_batch = size
        assert (gradient(module, whole) - wanted).norm() <= 1e-6 * wanted.norm(), size
    module.data.micro_batch = 4
    small = [b for b, _ in zip(training.training(4, 0), range(4), strict=False)]
    assert (gradient(module, small) - wanted).norm() <= 1e-6 * wanted.norm()


@pytest.mark.parametrize(("micro_batch", "accumulated"), [(3, 1), (None, 4)])
def test_a_run_in_smaller_parts_moves_and_averages_the_same(
    short_run, data, tmp_path, monkeypatch, micro_batch, accumulated
):
    """Steps are counted, not their parts: by the average of the weights, and by the rates."""
    monkeypatch.setattr("torch.nn.functional.dropout", lambda x, *_, **__: x)

    def ends(name, micro_batch, accumulated):
        """Weights and their average at the start and the end."""
        found = []

        def noted(module):
            parts = [part for kind in module.remembered().values() for part in kind.values()]
            found.append(torch.cat([part.flatten().double() for part in parts]))
            counts.append((module.global_step, int(module.average_model.n_averaged)))

        counts = []
        for hook in ("on_train_start", "on_train_end"):
            monkeypatch.setattr(FineTuningModule, hook, noted)
        orders = Orders("cpu", time.monotonic() + 1000, micro_batch=micro_batch)
        steps = {"batch_size": 16 // accumulated, "accumulate_grad_batches": accumulated}
        job = job_of(
            short_run[0], data, head=NO_DROPOUT, plan={"strategy": "full"},
            regularisation={"hide_probability": 0.0, "ema_decay": 0.9},
            trainer={"epochs": 2, **steps}, rates={"head_lr": 1e-4},
        )  # fmt: skip
        job.run_in(tmp_path / name, run_id="run", link=Link(None, orders))
        assert counts == [(0, 0), (6, 6)]
        return found

    first, last = ends("whole", None, 1)
    apart = last - ends("parts", micro_batch, accumulated)[1]
    assert apart.norm() < 0.02 * (last - first).norm()


def test_nothing_is_frozen_before_the_strategy_has_wrapped_the_module(
    short_run, data, tmp_path, monkeypatch
):
    """DistributedDataParallel would never average what is frozen when it wraps."""
    seen = {}
    setup = SingleDeviceStrategy.setup

    def noted(strategy, trainer):
        setup(strategy, trainer)
        seen["wrapped"] = all(p.requires_grad for p in trainer.lightning_module.parameters())

    def started(module):
        named = list(module.named_parameters())
        seen["frozen"] = {name.split(".")[0] for name, p in named if not p.requires_grad}
        seen["trained"] = [name for name, p in named if p.requires_grad]

    monkeypatch.setattr(SingleDeviceStrategy, "setup", noted)
    monkeypatch.setattr(FineTuningModule, "on_train_start", started)
    tune(
        short_run[0], data, tmp_path, regularisation={"ema_decay": 0.9}, trainer={"epochs": 1},
        plan={"strategy": "head_only"},
    )  # fmt: skip
    assert seen["wrapped"]
    assert seen["frozen"] == {"model", "average_model"}
    assert all(name.startswith("model.head.") for name in seen["trained"])


def test_the_gap_is_of_the_same_loss_on_both_splits(short_run, data, tmp_path):
    """With the same windows in both splits there is none, whatever the training adds."""
    store, windows, _ = data
    twice = pd.concat([windows, windows.assign(subject=windows["subject"] + "v")])
    people = sorted(windows["subject"].unique())[:4]
    subjects = [*people, *(f"{name}v" for name in people)]
    both = pd.DataFrame({"subject": subjects, "split": ["train"] * 4 + ["validation"] * 4})
    _, history = tune(
        short_run[0], (store, twice.reset_index(drop=True), both), tmp_path,
        regularisation={"mixup": 0.4, "label_smoothing": 0.2, "ema_decay": 0.8},
        head={"margin": "arcface", "margin_warmup_steps": 0}, trainer={"epochs": 3},
    )  # fmt: skip
    assert np.allclose(history["gap"], 0, atol=1e-6)
    assert np.allclose(history["train_plain_loss"], history["validation_loss"], atol=1e-6)
    assert np.allclose(history["train_auroc"], history["auroc"])
    assert (history["train_loss"] - history["validation_loss"]).abs().min() > 0.05


def test_a_lost_best_is_written_again_from_its_epoch(short_run, data, tmp_path):
    """Encoder and head as they are scored, not the state of training that the epoch keeps."""
    groups = {
        "trainer": {"epochs": 3, "early_stopping_patience": 3},
        "regularisation": {"ema_decay": 0.8},
        "rates": {"head_lr": 1e-30},  # the first epoch stays the best
        "plan": {"strategy": "head_only"},
    }
    whole = tune_until(short_run[0], data, tmp_path, None, **groups)
    assert whole[0].metadata["best_epoch"] == 1
    shutil.rmtree(tmp_path / BEST)
    again = tune_until(short_run[0], data, tmp_path, None, **groups)
    assert "step" not in again[2]
    check_the_same(again, whole, resumed=True)
    load_finetuned(again[0])
