"""Seconds until `kedro registry list` has answered: what every command pays before it begins.

python benchmarks/registry.py
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from arguments import count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=count, default=5)
    repeats = parser.parse_args().repeats
    command = [sys.executable, "-m", "kedro", "registry", "list"]
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    warm = seconds[1:]  # the first may still read the libraries from disk
    print(f"kedro registry list: median {statistics.median(warm):.2f} s, worst {max(warm):.2f} s")
    print("at least: under 2 s")


if __name__ == "__main__":
    main()
