"""What the server of `warm.py` imports once, for all commands that it forks."""

# ruff: noqa: F401
import edfio
import kedro.framework.session
import kedro.io
import kedro.runner
import kedro_datasets.json
import kedro_datasets.matplotlib
import kedro_datasets.pandas
import kedro_telemetry.plugin
import kedro_viz.integrations.kedro.hooks
import kedro_viz.launchers.cli
import lightning.pytorch.callbacks
import matplotlib.pyplot
import mne
import mne_bids
import pyarrow.dataset
import pyarrow.parquet
import pyriemann.estimation
import pytest
import safetensors.torch
import scipy.signal
import sklearn.linear_model
import sklearn.pipeline
import torch._dynamo
from kedro.framework.cli import cli

import hbn_foundation.cli
import hbn_foundation.io
import hbn_foundation.pipeline_registry
import hbn_foundation.training.finetune
import hbn_foundation.training.pretrain
import hbn_foundation.training.supervision.child
