"""Runs a submission in a process of its own, as the challenge's harness does.

This file is run by its path, by an interpreter that need not know the project: nothing but the
standard library and torch is imported, and Python 3.10 is enough. Requests and replies are JSON
over a connection; the samples of the windows follow each request.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
import traceback
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

PR_SET_PDEATHSIG, SIGKILL = 1, 9


class Blocked:
    """Makes packages look as if they were not installed."""

    def __init__(self, packages: list[str]) -> None:
        self.packages = packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Refuse these packages and leave all others to the finders behind."""
        if name.split(".")[0] in self.packages:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def main(folder: str, settings: dict[str, Any], connection: Connection) -> None:
    """Make the models, then answer requests until there are no more."""

    def send(**reply: Any) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak_megabytes = peak / (1e6 if sys.platform == "darwin" else 1e3)
        connection.send_bytes(json.dumps({**reply, "peak_megabytes": peak_megabytes}).encode())

    try:
        import torch

        torch.set_num_threads(settings["threads"])
        versions = {"torch": torch.__version__, "python": sys.version.split()[0]}
        send(versions=versions, weights=weights_problem(folder))
        os.chdir(folder)
        sys.path.insert(0, folder)
        device = torch.device(settings["device"])
        made = import_module("submission").Submission(settings["sfreq"], device)
        models = [made.get_model_challenge_1().eval(), made.get_model_challenge_2().eval()]
        send()
        while True:
            request = json.loads(connection.recv_bytes())
            samples = bytearray(connection.recv_bytes())
            windows = torch.frombuffer(samples, dtype=torch.float32).reshape(request["shape"])
            model = models[request["challenge"] - 1]
            send(**answer(model, windows.to(device), request["batch_size"]))
    except EOFError:
        return
    except BaseException as error:
        traceback.print_exc()
        send(error=one_line(error))
        sys.exit(3)


def weights_problem(folder: str) -> str | None:
    """Say in one line which weights are more than plain tensors; None when none are."""
    import torch

    for name in sorted(os.listdir(folder)):
        if name.endswith((".pt", ".pth", ".ckpt", ".bin", ".pkl")):
            try:
                torch.load(os.path.join(folder, name), map_location="cpu", weights_only=True)
            except Exception as error:
                return f"{name}: {one_line(error)}"
    return None


def answer(model: Any, windows: Any, size: int) -> dict[str, list]:
    """Predict windows in batches; what the harness reads is the first of each row."""
    import torch

    values, shapes = [], []
    with torch.inference_mode():
        for batch in windows.split(size):
            output = model(batch.clone())
            shape = list(getattr(output, "shape", [])) or [type(output).__name__]
            expected = [len(batch), 1]
            if shape != expected and [shape, expected] not in shapes:
                shapes.append([shape, expected])
            values += [first_of(output, row) for row in range(len(batch))]
    return {"values": values, "wrong_shapes": shapes}


def first_of(output: Any, row: int) -> float:
    """Read what the harness reads; NaN where an output has no such place."""
    try:
        return float(output[row][0])
    except (IndexError, KeyError, TypeError, ValueError):
        return float("nan")


def one_line(error: BaseException) -> str:
    """Name an error with its message in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


if __name__ == "__main__":
    if sys.platform == "linux":  # end with the parent
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)
    chosen = json.loads(sys.argv[2])
    sys.meta_path.insert(0, Blocked(chosen["blocked"]))
    main(sys.argv[1], chosen, Connection(int(sys.argv[3])))
