"""The hash of the code that a kept result depends on."""

from __future__ import annotations

from hbn_foundation.evaluation.provenance import (
    BESIDE,
    EVALUATION,
    OF_FINE_TUNING,
    PACKAGE,
    PRETRAINING,
    hash_code,
    provenance,
)


def test_the_code_counts_and_comments_and_docstrings_do_not(tmp_path):
    (tmp_path / "models").mkdir()
    file = tmp_path / "models" / "net.py"
    hashes = []
    plain = "class Net:\n    def f(self, x='a'):\n        return x\n"
    for text in (
        plain,
        plain.replace("Net:", "Net:  # one"),
        '"""Nets."""\n' + plain.replace("):\n", '):\n        """Pass x on."""\n'),
        plain.replace("    def", '    y = 1\n    """What y is."""\n    def'),
        plain.replace("'a'", "'b'"),
    ):
        file.write_text(text)
        hashes.append(hash_code(["models"], package=tmp_path))
    assert hashes[0] == hashes[1] == hashes[2]
    assert len(set(hashes)) == 3  # an attribute counts, and so does a default, not what is said
    assert hash_code(["models"], ["torch 2"], tmp_path) != hashes[-1]
    assert hash_code(["models"], (), tmp_path, ("models/net.py",)) == hash_code([])
    single, half = (provenance(arithmetic, {"chosen": "cpu"}) for arithmetic in ("32", "bf16"))
    assert single.pretraining != half.pretraining
    assert single.evaluation == half.evaluation
    for place in {*PRETRAINING, *EVALUATION, *OF_FINE_TUNING, *BESIDE}:
        assert (PACKAGE / place).exists()
