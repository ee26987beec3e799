"""A sequence encoder pretrained by predicting masked windows, against means of windows.

    python benchmarks/masked_windows.py               # ±10 and ±30 s, five folds of `eyes`
    python benchmarks/masked_windows.py --folds 2 --seeds 0 1

In each fold twenty linear slow features, relative to the recording and denoised, are fitted without
labels on the training subjects. A sequence encoder (`models/sequence.py`) begins at a fading mean
of the windows around. Spans of 6 to 30 s are hidden from it, and it predicts from each window that
it sees and those around the mean of the hidden windows within ±10 s, of their five slowest
features, winsorised and not filtered. No label is used; the filter and the mean of a recording know
its hidden windows, too, and the input is normalised by the subjects of the project's own split. The
epoch is chosen by the same error of the validation subjects. Its outputs for whole recordings, or
the mean within as many seconds, which needs no training, are then read by a logistic regression
with the labels of five or all 42 people, as in `eyes_folds.py`. The data: `EYES_ROOT`.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from torch import Tensor

from curves import Mean, prepare
from hbn_foundation.evaluation.baselines import fit_baseline
from hbn_foundation.evaluation.features import encoder_features
from hbn_foundation.evaluation.methods import ENCODER_INPUT, SLOW
from hbn_foundation.evaluation.tasks.labels import target_of
from hbn_foundation.experiments.label_tasks import Labelled
from hbn_foundation.labels.strata import STRATUM
from hbn_foundation.models.config import SequenceConfig
from hbn_foundation.models.sequence import SequenceEncoder
from hbn_foundation.project import open_project
from hbn_foundation.scores import subject_aurocs
from hbn_foundation.signals.context import Surroundings, in_context, surroundings
from hbn_foundation.signals.denoising import denoised, winsorised
from hbn_foundation.signals.params import ContextParams
from hbn_foundation.training.checkpoint import load_encoder
from hbn_foundation.training.slow_features import LinearSlowFeatures
from scaling import folds_of

N_LINEAR, N_SLOW = 20, 5
REACHES, TARGET_SECONDS = (10.0, 30.0), 10.0
STEPS, RECORDINGS, RATE, EVERY = 400, 8, 1e-3, 50
HIDDEN, SPANS = (0.2, 0.6), (3, 15)  # share of the windows, windows of a span
DENOISED = ContextParams(of="recording", denoise=True)
COUNTS = (5, 42)


def fading_mean(seconds: float) -> SequenceEncoder:
    """Make a sequence encoder of slow features, which begins at a mean of those around."""
    config = SequenceConfig(
        seconds=seconds, n_layers=1, n_heads=5, dropout=0.2, recentre=False, running=False,
        share=1.0,
    )  # fmt: skip
    return SequenceEncoder(config, N_LINEAR)


def read(model: SequenceEncoder, features: Tensor, onset: Tensor, seen: Tensor) -> Tensor:
    """Compute outputs (T, 5) of a recording's windows (T, 20), of which some are seen (T,)."""
    zero = torch.zeros_like(onset)
    places = torch.stack([zero, zero, onset, seen.float()], 1)
    return model((features * seen[:, None])[:, None], places)[:, 0, :N_SLOW]


def hide(count: int, random: torch.Generator) -> Tensor:
    """Say which windows (count,) are seen: all but spans that cover a random share of them."""
    seen = torch.ones(count, dtype=torch.bool)
    share = torch.empty(1).uniform_(*HIDDEN, generator=random).item()
    while (~seen).float().mean() < share:
        length, start = (
            int(torch.randint(low, high, (1,), generator=random))
            for low, high in ((SPANS[0], SPANS[1] + 1), (0, max(1, count - SPANS[0])))
        )
        seen[start : start + length] = False
    return seen


Recording = tuple[Tensor, Tensor, Tensor]  # (T, 20) denoised, (T, 5) not, (T,) onsets in s


def errors(model: SequenceEncoder, one: Recording, random: torch.Generator) -> Tensor:
    """Squared error and that of the mean, 0, over seen windows with hidden ones around them."""
    features, truth, onset = one
    seen = hide(len(onset), random)
    near = ((onset[:, None] - onset).abs() <= TARGET_SECONDS + 1e-3) & ~seen
    count = near.sum(1)
    goal = (near.float() @ truth) / count.clamp_min(1)[:, None]
    weight = (seen * count / (count + 2.0))[:, None]  # a mean of few windows is noisy
    found = read(model, features, onset, seen)
    total = weight.sum().clamp_min(1e-9)
    return torch.stack([(weight * x.square()).sum() / total for x in (found - goal, goal)])


def train(
    seconds: float, training: list[Recording], held: list[Recording], seed: int
) -> tuple[SequenceEncoder, float, float]:
    """Train on masked windows; return the best model, and the share unexplained before, after."""
    torch.manual_seed(seed)
    random, model = torch.Generator().manual_seed(seed), fading_mean(seconds)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS, pct_start=0.1)

    def unexplained() -> float:
        model.eval()
        same = torch.Generator().manual_seed(1)
        with torch.no_grad():
            error, trivial = sum(errors(model, one, same) for _ in range(3) for one in held)
        model.train()
        return float(error / trivial)

    first = best = unexplained()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(1, STEPS + 1):
        chosen = torch.randint(len(training), (RECORDINGS,), generator=random)
        loss = sum(errors(model, training[one], random)[0] for one in chosen) / RECORDINGS
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % EVERY == 0 and (now := unexplained()) < best:
            best = now
            kept = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(kept)
    return model.eval(), first, best


def one_fold(
    fold: dict[str, Any], labelled: Any, recipe: Any, inputs: np.ndarray, around: Surroundings,
    seeds: list[int],
) -> pd.DataFrame:  # fmt: skip
    """Score means and sequence encoders of a fold: AUROC of each test subject."""
    torch.set_num_threads(1)
    table, tiles, splits = around.table, around.tiles, fold["splits"]
    row, onset = table["row"].to_numpy(), table["onset"].to_numpy()
    of = splits.set_index(splits["subject"].astype(str))["split"]
    split = table["subject"].astype(str).map(of).to_numpy()
    own = tiles[split[tiles] == "train"]
    slow = LinearSlowFeatures(N_LINEAR).fit(inputs[own], recordings=row[own], onsets=onset[own])
    whole, relative = around._replace(n_windows=len(table)), ContextParams(of="recording")
    linear = slow.transform(inputs)
    clean = denoised(linear, around, DENOISED)
    truth = in_context(winsorised(linear, around, DENOISED), whole, relative)[:, :N_SLOW]
    recordings: dict[str, list[Recording]] = {"train": [], "validation": [], "test": []}
    for rows in pd.Series(tiles).groupby(row[tiles]):
        place = rows[1].to_numpy()
        place = place[np.argsort(onset[place])]
        values = (torch.from_numpy(x[place].astype(np.float32)) for x in (clean, truth, onset))
        recordings[split[place[0]]].append(tuple(values))
    features = {}
    for seconds in REACHES:
        over = relative.model_copy(update={"seconds": seconds})
        features[f"mean of ±{seconds:g} s"] = in_context(clean[:, :N_SLOW], around, over)
        outputs = []
        for seed in seeds:
            about = (recordings["train"], recordings["validation"], seed)
            model, first, best = train(seconds, *about)
            print(f"±{seconds:g} s: unexplained {first:.3f}, trained {best:.3f}", flush=True)
            found = np.zeros((len(table), N_SLOW), np.float32)
            for number in np.unique(row):
                at = np.flatnonzero(row == number)
                values = (torch.from_numpy(x[at].astype(np.float32)) for x in (clean, onset))
                with torch.inference_mode():
                    seen = torch.from_numpy(np.isin(at, tiles))
                    found[at] = read(model, *values, seen).numpy()
            outputs.append(in_context(found, around, relative))
        for seed, found in zip(seeds, outputs, strict=True):
            features[f"sequence encoder, ±{seconds:g} s", seed] = found
    return scored(fold, Labelled.of(labelled.replace(splits=splits), recipe), recipe, features)


def scored(
    fold: dict[str, Any], labelled: Labelled, recipe: Any, features: dict[Any, np.ndarray]
) -> pd.DataFrame:
    """Fit probes of features (N, 5) of the labelled windows, and score the test subjects."""
    windows, rows = labelled.dataset.windows, []
    target = target_of(labelled.targets, recipe.label)
    test = labelled.split("test")[0]
    places = pd.MultiIndex.from_frame(windows[["row", "start"]])
    of_test = places.get_indexer(pd.MultiIndex.from_frame(test[["row", "start"]]))
    values = labelled.targets.values[of_test].astype(int)
    for draw in {draw.subjects: draw for draw in fold["draws"]}.values():
        sample = labelled.learned(draw, recipe.evaluation)
        for name, found in features.items():
            method, seed = name if isinstance(name, tuple) else (name, 0)
            inputs = found[sample["place"]]
            fitted = fit_baseline(SLOW, inputs, sample, target, recipe.evaluation)
            logs = fitted.predict(found[of_test], test)
            names, areas = subject_aurocs(values, logs, test["subject"].to_numpy(str))
            strata = test.drop_duplicates("subject").set_index("subject")[STRATUM].loc[names]
            part = pd.DataFrame({"subject": names, "stratum": strata.to_numpy(), "auroc": areas})
            rows.append(part.assign(method=method, seed=seed, validation=fitted.validation,
                                    n_subjects=min(len(draw.subjects), COUNTS[-1])))  # fmt: skip
    return pd.concat(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--folds", type=int, default=5, help="at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the training")
    parser.add_argument("--n-jobs", type=int, default=2)
    options = parser.parse_args()
    prepare("eyes", [])
    with open_project("eyes") as project:
        dataset = project.catalog.load("finetuning.dataset")
        encoder = load_encoder(project.catalog.load("foundation_checkpoint"))
        recipe = project.params["finetuning"]
    around = surroundings(dataset.store, dataset.windows, dataset.n_samples, DENOISED)
    given = ({"one": encoder}, dataset.store, around.table, 256, "one")
    inputs = encoder_features(*given)[ENCODER_INPUT]  # its normalisation is fitted on one split
    folds = []
    for count in COUNTS:
        for number, fold in enumerate(folds_of(dataset, recipe, options.folds, count)):
            if len(folds) <= number:
                folds.append(fold)
            else:
                folds[number]["draws"] += fold["draws"]
    tables = Parallel(n_jobs=options.n_jobs)(
        delayed(one_fold)(fold, dataset, recipe, inputs, around, options.seeds) for fold in folds
    )
    means = pd.concat(tables).groupby(["n_subjects", "method", "subject", "stratum"])
    for count, of_count in means[["auroc", "validation"]].mean().groupby("n_subjects"):
        print(f"\n{count} labelled subjects")
        by_method = {
            name: part.droplevel(["n_subjects", "method"]).reset_index("stratum")
            for name, part in of_count.groupby("method")
        }
        for name, part in by_method.items():
            line = f"  {name:26} {Mean.of(part['auroc'], part['stratum'])}"
            line += f"   validation {part['validation'].mean():.3f}"
            plain = by_method["mean of ±" + name.split("±")[1]]
            if plain is not part:
                gap = part["auroc"] - plain["auroc"]
                line += f"   ahead of the mean by {Mean.of(gap, part['stratum'])}"
            print(line)


if __name__ == "__main__":
    main()
