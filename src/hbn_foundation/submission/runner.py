"""Runs a submission in a process of its own, as the challenge's harness does.

This file is run by its path, by an interpreter that need not know the project: nothing but the
standard library and torch is imported, and Python 3.10 is enough. It reads requests from standard
input, a line of JSON and the samples of windows behind it, and answers each with a line of JSON.

What a submission does beside computing is watched through Python's audit events. That finds
mistakes and bad habits; it is no wall against code that means harm, as compiled code can go
around it.
"""

from __future__ import annotations

import json
import os
import sys
import sysconfig
import traceback
from importlib import import_module
from typing import Any

CHANGES = (
    "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
    "os.symlink", "os.truncate", "shutil.rmtree", "shutil.copyfile", "shutil.move",
)  # fmt: skip
PROCESSES = ("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile",
             "os.system", "pty.spawn", "subprocess.Popen")  # fmt: skip
CONNECTIONS = ("socket.bind", "socket.connect", "socket.getaddrinfo", "socket.gethostbyname",
               "socket.sendto", "urllib.Request")  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
OF_THE_SYSTEM = ("/dev/null", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo", "/proc/self")
PR_SET_PDEATHSIG, SIGKILL = 1, 9
FORBIDDEN = "a submission must not do this"


class Blocked:
    """Makes packages look as if they were not installed."""

    def __init__(self, packages: list[str]) -> None:
        self.packages = packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Refuse these packages and leave all others to the finders behind."""
        if name.split(".")[0] in self.packages:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class Watch:
    """Notes what is done beside computing, and forbids it where asked to.

    Parameters
    ----------
    folder
        Where the submission may read.
    places
        Where the interpreter's and torch's own files lie.
    forbids
        Whether what is noted also fails.
    """

    def __init__(self, folder: str, places: list[str], forbids: bool) -> None:
        self.allowed = [os.path.realpath(place) for place in [folder, *places]]
        self.forbids = forbids
        self.noted: list[dict[str, str]] = []
        self.on = True

    def hook(self, event: str, arguments: tuple) -> None:
        """Judge an audit event."""
        if not self.on:
            return
        if event == "open":
            self._opened(*arguments[:3])
        elif event in ("os.listdir", "os.scandir"):
            if arguments[0] is not None and not self._is_allowed(arguments[0]):
                self._note("read", f"lists {_text(arguments[0])}")
        elif event in CHANGES:
            self._note("change", f"changes files ({event} {_text(arguments[0])})")
        elif event in PROCESSES:
            self._note("process", f"starts a process ({event} {_text(arguments[0])})")
        elif event in CONNECTIONS:
            self._note("connection", f"opens a connection ({event})")

    def _opened(self, path: Any, mode: Any, flags: Any) -> None:
        if isinstance(path, int):  # a file that is open already
            return
        writes = isinstance(flags, int) and flags & WRITING and _text(path) not in OF_THE_SYSTEM
        if writes:
            self._note("change", f"writes {_text(path)}")
        elif not self._is_allowed(path):
            self._note("read", f"reads {_text(path)}")

    def _is_allowed(self, path: Any) -> bool:
        if isinstance(path, int):
            return True
        real = os.path.realpath(_text(path))
        if real.startswith((*OF_THE_SYSTEM, f"/proc/{os.getpid()}")):
            return True
        return any(real == place or real.startswith(place + os.sep) for place in self.allowed)

    def _note(self, kind: str, what: str) -> None:
        found = {"kind": kind, "what": what[:300]}
        if found not in self.noted and len(self.noted) < 100:
            self.noted.append(found)
        if self.forbids:
            raise PermissionError(f"{FORBIDDEN}: it {what}")


def _text(path: Any) -> str:
    try:
        return os.fsdecode(path)
    except TypeError:
        return str(path)


class Models:
    """The submission's models, made as the harness makes them."""

    def __init__(self, folder: str, sfreq: float, device: str) -> None:
        import torch

        os.chdir(folder)
        sys.path.insert(0, folder)
        made = import_module("submission").Submission(sfreq, torch.device(device))
        self.device = torch.device(device)
        self.models = {
            1: made.get_model_challenge_1().eval(),
            2: made.get_model_challenge_2().eval(),
        }

    def answer(self, request: dict, samples: bytearray) -> dict:
        """Predict windows in batches; what the harness reads is the first of each row."""
        import torch

        windows = torch.frombuffer(samples, dtype=torch.float32).reshape(request["shape"])
        model, size = self.models[request["challenge"]], request["batch_size"]
        values, shapes = [], []
        with torch.inference_mode():
            for first in range(0, len(windows), size):
                batch = windows[first : first + size].clone().to(self.device)
                output = model(batch)
                shape = list(getattr(output, "shape", [])) or [type(output).__name__]
                expected = [len(batch), 1]
                if shape != expected and [shape, expected] not in shapes:
                    shapes.append([shape, expected])
                values += [_first_of(output, row) for row in range(len(batch))]
        return {"values": values, "wrong_shapes": shapes}


def main() -> None:
    """Make the models, then answer requests until there are no more."""
    folder, settings = sys.argv[1], json.loads(sys.argv[2])
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a submission prints goes elsewhere
    _end_with_parent()
    sys.meta_path.insert(0, Blocked(settings["blocked"]))
    sys.path[:] = [place for place in sys.path if not _holds(place, settings["blocked"])]
    watch = None

    def send(reply: dict) -> None:
        content = {**reply, "noted": watch.noted if watch else [], "peak_megabytes": _peak()}
        replies.write(json.dumps(content).encode() + b"\n")

    try:
        import torch

        torch.set_num_threads(settings["threads"])
        send({"ready": True, "torch": torch.__version__, "python": sys.version.split()[0]})
        watch = Watch(folder, _own_places(torch.__file__), settings["forbids"])
        sys.addaudithook(watch.hook)
        models = Models(folder, settings["sfreq"], settings["device"])
        send({"made": True})
        for line in sys.stdin.buffer:
            request = json.loads(line)
            samples = bytearray(sys.stdin.buffer.read(request["bytes"]))
            send(models.answer(request, samples))
    except BaseException as error:
        if watch is not None:
            watch.on = False
        send({"error": _one_line(error), "traceback": traceback.format_exc()})
        sys.exit(3)


def _first_of(output: Any, row: int) -> float:
    """Read what the harness reads; NaN where an output has no such place."""
    try:
        return float(output[row][0])
    except (IndexError, KeyError, TypeError, ValueError):
        return float("nan")


def _own_places(torch_file: str) -> list[str]:
    """Return where the interpreter's and torch's files lie."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    packages = os.path.dirname(os.path.dirname(torch_file))
    return [packages, *(sysconfig.get_path(name) for name in names)]


def _holds(place: str, packages: list[str]) -> bool:
    """Whether a folder holds one of these packages and is no folder of installed packages."""
    if os.path.basename(place) in ("site-packages", "dist-packages"):
        return False
    return any(os.path.isdir(os.path.join(place, package)) for package in packages)


def _peak() -> float | None:
    """Return the most memory that was ever in use, in MB."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _end_with_parent() -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


if __name__ == "__main__":
    main()
