"""A checkpoint pretrained on 129 channels embeds recordings of 19."""

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.features import encoder_features
from hbn_foundation.recordings.find import find_recordings
from hbn_foundation.recordings.params import SelectionParams
from hbn_foundation.signals.build import build_store
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.signals.params import BuildParams, WindowParams
from hbn_foundation.signals.windows import cut_windows
from hbn_foundation.training.checkpoint import Checkpoint, load_encoder
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.params import ObjectiveParams, TrainerParams
from hbn_foundation.training.pretrain import pretrain
from hbn_foundation.training.recipes import PretrainingRecipe


def test_checkpoint_of_the_simulation_embeds_real_eeg(tiny_bids, eegmat_root, tmp_path):
    def into(folder: str) -> BuildParams:
        return BuildParams(path=str(tmp_path / folder), n_jobs=1)

    window = WindowParams()
    simulated = build_store(find_recordings(tiny_bids), into("simulated"))
    windows = cut_windows(simulated, window)
    subjects = sorted(windows["subject"].unique())
    splits = pd.DataFrame(
        {"subject": subjects, "split": ["train"] * (len(subjects) - 1) + ["validation"]}
    )
    recipe = PretrainingRecipe(
        encoder=EncoderParams(tokens=("band", "time"), hidden_dim=32, n_heads=2, n_layers=1),
        objective=ObjectiveParams(name="masked"),
        trainer=TrainerParams(epochs=1, batch_size=16),
    )
    dataset = EEGDataset(simulated, windows, splits, pd.DataFrame(), window)
    checkpoint, _ = pretrain(dataset, recipe, {"chosen": "cpu"}, tmp_path / "work")
    checkpoint.save(tmp_path / "checkpoint")
    encoder = load_encoder(Checkpoint.load(tmp_path / "checkpoint"))

    selection = SelectionParams(max_subjects=1)
    real = build_store(find_recordings(eegmat_root, selection), into("real"))
    assert len(simulated.channel_names) == 129
    assert len(real.channel_names) == 19
    table = cut_windows(real, window)
    features = encoder_features({"encoder": encoder}, real, table, 64)["encoder"]
    assert features.shape == (len(table), encoder.n_features)
    assert np.isfinite(features).all()
    assert features.std(axis=0).max() > 0
