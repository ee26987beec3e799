"""The longest silence of a command on a terminal: how long nothing that a person sees changes.

`python benchmarks/silence.py -- kedro run --pipeline foundation` runs the command on a
pseudo-terminal, passes on what it writes, and prints its longest silences with the last line
before each. A redrawn bar counts only when its text has changed. `--file` measures with the output
in a pipe, as in a log. The status is 1 where a silence is longer than `--most` seconds.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import subprocess
import sys
import time

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[━╸╺]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--most", type=float, default=10.0, help="seconds (default 10)")
    parser.add_argument("--file", action="store_true", help="without a terminal")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    silences, status = measure(command, terminal=not given.file)
    print(f"\nlongest silences of {' '.join(command)} (status {status}):")
    for seconds, text in sorted(silences, reverse=True)[:5]:
        print(f"  {seconds:5.1f} s  after: {text[-100:]}")
    sys.exit(status or max(silences)[0] > given.most)


def measure(command: list[str], terminal: bool = True) -> tuple[list[tuple[float, str]], int]:
    """Run a command; return each silence in seconds with the text before it, and the status."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    silences: list[tuple[float, str]] = []
    last, shown = time.monotonic(), "(the start)"
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # a terminal whose other end is closed
            part = b""
        if not part:
            break
        sys.stdout.buffer.write(part)
        sys.stdout.flush()
        text = " ".join(ESCAPES.sub("", part.decode(errors="replace")).split())
        if text and text != shown:
            now = time.monotonic()
            silences.append((now - last, shown))
            last, shown = now, text
    silences.append((time.monotonic() - last, shown))
    os.close(ours)
    return silences, process.wait()


if __name__ == "__main__":
    main()
