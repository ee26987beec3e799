"""Pretrained on one data set, used on another: eyes open or closed, then mental arithmetic.

    python benchmarks/transfer.py                 # 5 folds × 2 of the 20 people of eegmat

An encoder is pretrained on `eyes` by `kedro run --env eyes --pipeline foundation`, and probes of it
are fitted by `kedro run --env eegmat` on the labels of 3, 6 and 12 people of eegmat, other people
at another amplifier; beside it encoders that are pretrained there (`at home`), their input and the
filter bank. Score: AUROC within each test subject, averaged over draws and folds; intervals are
over subjects (BCa), of differences paired. The data: `EYES_ROOT`, `EEGMAT_ROOT`.
"""

from __future__ import annotations

import argparse

import pandas as pd

from curves import OURS, prepare, subjects_scores, tell

CONTEXTS = {
    "each window alone": {"of": "window", "seconds": 0},
    "the subject's mean and ±10 s": {"of": "subject", "seconds": 10},
}
JOINED = "pretrained_and_input"
BESIDE = ("encoder_input", "slow_features", "filter_bank")
COUNTS = (3, 6, 12)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], help="parameters of both, such as a.b=c")
    options = parser.parse_args()
    for env in ("eyes", "eegmat"):
        prepare(env, options.set)
    repeats = {"folds": options.folds, "repeats": options.repeats}
    about = {"subjects": [*COUNTS], "repeats": repeats}
    parts = []
    for name, context in CONTEXTS.items():
        for checkpoint in ("foundation_checkpoint", "eyes"):
            home = checkpoint != "eyes"
            frozen = [OURS, JOINED, *(BESIDE if home else ())]
            params = {"finetuning": {"context": context, "checkpoint": checkpoint}}
            found = subjects_scores("eegmat", options.set, params, frozen=frozen, **about)
            where = "_at_home" if home else "_elsewhere"
            ours = found["method"].isin([OURS, JOINED])
            found["method"] = found["method"].where(~ours, found["method"] + where)
            parts.append(found.assign(context=name))
    tell(pd.concat(parts), JOINED + "_elsewhere")


if __name__ == "__main__":
    main()
