"""Published architectures of braindecode as encoders: found, loaded, probed, timed.

    python benchmarks/external_encoders.py                  # all of them
    python benchmarks/external_encoders.py --only cbramod

braindecode is no dependency: the script installs it into an environment of its own under
--folder, beside the packages of this one, and runs itself there. Weights are random, written to a
file and read from it as published ones are; REVE's bank of positions is made up, as it would be
fetched. The data are noise with a rhythm that tells two tasks apart, at the rate of each adapter.
The last lines put this project's encoder into a classifier of braindecode.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
import warnings
from pathlib import Path

from hbn_foundation.models.spatial import DIRECTIONS_10_20

#: Class by adapter, with arguments that keep the largest ones small.
CLASSES = {
    "cbramod": ("CBraMod", {}),
    "labram": ("Labram", {}),
    "biot": ("BIOT", {}),
    "eegpt": ("EEGPT", {"depth": 2}),
    "signaljepa": ("SignalJEPA", {}),
    "reve": ("REVE", {"depth": 4}),
    "eegnex": ("EEGNeX", {}),
}
#: What braindecode imports, without what would bring CUDA.
PACKAGES = [
    "braindecode", "axial-positional-embedding", "colt5_attention", "docstring_inheritance",
    "einops", "hyper-connections", "lazy_loader", "linear_attention_transformer", "linformer",
    "local-attention", "product_key_memory", "skorch", "tabulate", "torch_einops_utils",
    "torchaudio", "torchinfo", "wfdb",
]  # fmt: skip
INSIDE, BANK = "HBN_FOUNDATION_BRAINDECODE", "reve_positions.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=CLASSES, nargs="*", default=list(CLASSES))
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir(), "hbn-braindecode")
    )
    arguments = parser.parse_args()
    if INSIDE not in os.environ:
        python = environment(arguments.folder)
        inside = {**os.environ, INSIDE: "1", "REVE_POSITIONS_PATH": str(arguments.folder)}
        sys.exit(subprocess.call([python, *sys.argv], env=inside))
    bank = {name: list(place) for name, place in DIRECTIONS_10_20.items()}
    (arguments.folder / BANK).write_text(json.dumps(bank))
    warnings.filterwarnings("ignore")
    print(
        f"{'adapter':12}{'parameters':>12}{'blocks':>8}{'tokens':>12}{'AUROC':>8}{'windows/s':>11}"
    )
    for name in arguments.only:
        print(row(name, arguments.folder), flush=True)
    print(own_encoder())


def environment(folder: Path) -> Path:
    """Make the environment, once."""
    python = folder / "venv/bin/python"
    if not (folder / "ready").exists():
        venv.create(folder / "venv", with_pip=True)
        site = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
        (site / "project.pth").write_text(sysconfig.get_path("purelib"))
        subprocess.check_call([python, "-m", "pip", "install", "-qq", "--no-deps", *PACKAGES])
        for library in (site / "torchaudio/lib").glob("*.so"):  # built for CUDA
            library.unlink()
        (folder / "ready").touch()
    return python


def row(name: str, folder: Path) -> str:
    """Take one architecture from a file of weights to a probe."""
    import pandas as pd
    import torch

    from hbn_foundation.evaluation.features import encoder_features
    from hbn_foundation.evaluation.params import EvaluationParams
    from hbn_foundation.evaluation.tasks.foundation import evaluate_foundation
    from hbn_foundation.training.checkpoint import load_encoder
    from hbn_foundation.training.external import build_external
    from hbn_foundation.training.pretrain import pretrain
    from hbn_foundation.training.recipes import PretrainingRecipe

    named, kwargs = CLASSES[name]
    target = {"kind": "external", "target": f"braindecode.models:{named}", "adapter": name}
    recipe = PretrainingRecipe(encoder={**target, "kwargs": kwargs}, objective={"name": "none"})
    sfreq = recipe.encoder.adapter.sfreq or 200.0
    with tempfile.TemporaryDirectory() as work:
        weights = Path(work, "weights.pt")
        torch.manual_seed(0)
        module = build_external(recipe.encoder, sfreq, round(2 * sfreq)).module
        head = {"final_layer.weight": torch.zeros(3, 3)}  # of another task, left out
        torch.save({"state_dict": {**module.state_dict(), **head}}, weights)
        encoder = recipe.encoder.model_copy(update={"weights": str(weights)})
        recipe = recipe.model_copy(update={"encoder": encoder})
        dataset = data(Path(work), sfreq)
        checkpoint, _ = pretrain(dataset, recipe, {"chosen": "cpu"}, Path(work, "run"))
        made = load_encoder(checkpoint)
        found = evaluate_foundation(
            checkpoint, dataset, EvaluationParams(baselines=(), bootstraps=0)
        )
        started = time.perf_counter()
        encoder_features({name: made}, dataset.store, dataset.windows, 64)
        seconds = time.perf_counter() - started
    scores = found.scores.set_index(["metric", "method"])["value"]
    auroc = scores["window_auroc"]["pretrained"]
    sizes = [sum(p.numel() for p in block.parameters()) for _, block in made.blocks()]
    tokens = f"{made.n_tokens} × {made.config.hidden_dim}"
    speed = len(dataset.windows) / seconds
    assert pd.notna(auroc)
    return f"{name:12}{sum(sizes):12,}{len(sizes):8}{tokens:>12}{auroc:8.3f}{speed:11.0f}"


def data(folder: Path, sfreq: float):
    """Make eight subjects, two tasks that differ in a rhythm of 10 Hz."""
    import numpy as np
    import pandas as pd

    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.signals.params import WindowParams
    from hbn_foundation.signals.store import store_from_arrays
    from hbn_foundation.signals.windows import cut_windows

    random, recordings = np.random.default_rng(0), []
    time_ = np.arange(round(20 * sfreq)) / sfreq
    for subject in range(8):
        for task, gain in (("rest", 0.3), ("count", 0.1)):
            rhythm = gain * random.uniform(0.7, 1.3) * np.sin(20 * np.pi * time_)
            signal = random.standard_normal((len(time_), 19)) + rhythm[:, None]
            recording = {"recording": f"sub-{subject}_task-{task}", "subject": str(subject)}
            recordings.append(({**recording, "task": task}, signal))
    places = np.array(list(DIRECTIONS_10_20.values()))
    store = store_from_arrays(folder / "store", recordings, tuple(DIRECTIONS_10_20), places, sfreq)
    splits = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    table = pd.DataFrame({"subject": [str(i) for i in range(8)], "split": splits})
    return EEGDataset(store, cut_windows(store, WindowParams()), table, pd.DataFrame())


def own_encoder() -> str:
    """Train this project's encoder by a classifier of braindecode, from random weights."""
    import torch
    from braindecode import EEGClassifier

    from hbn_foundation.signals.reader import WindowReader
    from hbn_foundation.training.contract import braindecode_model
    from hbn_foundation.training.pretrain import pretrain
    from hbn_foundation.training.recipes import PretrainingRecipe

    recipe = PretrainingRecipe(
        encoder={"hidden_dim": 64, "n_layers": 2}, objective={"name": "none"}
    )
    with tempfile.TemporaryDirectory() as work:
        dataset = data(Path(work), 100.0)
        checkpoint, _ = pretrain(dataset, recipe, {"chosen": "cpu"}, Path(work, "run"))
        windows = dataset.windows
        reader = WindowReader(dataset.store, 200)
        signals, _ = reader.read_scaled(windows["row"].to_numpy(), windows["start"].to_numpy())
        reader.close()
    labels = (windows["task"] == "rest").to_numpy(dtype="int64")
    tested = windows["subject"].isin(["6", "7"]).to_numpy()
    signals = signals.contiguous().numpy()
    model = braindecode_model(checkpoint, [{"ch_name": n} for n in DIRECTIONS_10_20], 2)
    classifier = EEGClassifier(
        model, max_epochs=10, batch_size=32, lr=1e-3, optimizer=torch.optim.AdamW,
        train_split=None, verbose=0,
    ).fit(signals[~tested], labels[~tested])  # fmt: skip
    right = (classifier.predict(signals[tested]) == labels[tested]).mean()
    return (
        f"\nthis project's encoder in EEGClassifier, 10 epochs: {right:.0%} of test windows right"
    )


if __name__ == "__main__":
    main()
