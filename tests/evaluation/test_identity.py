"""No report mixes the metrics of one checkpoint with another."""

import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.identity import check_identity, with_identity
from hbn_foundation.training.checkpoint import Checkpoint


def test_metrics_know_their_checkpoint():
    old = Checkpoint({}, {"run_id": "monday", "weights_sha256": "a"})
    new = Checkpoint({}, {"run_id": "tuesday", "weights_sha256": "b"})
    metrics = with_identity({"auroc": 0.8}, old)
    assert metrics["auroc"] == 0.8
    check_identity(metrics, old)
    with pytest.raises(UserError, match="of the run monday, found that of tuesday"):
        check_identity(metrics, new)
    check_identity({"auroc": 0.8}, new)  # of before they were named
