"""Children of a fork server are supervised as others are, and start at once."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from stand_in import expected, supervise

from hbn_foundation.training.supervision.fork_server import ForkServer, ForkServerError
from hbn_foundation.training.supervision.heartbeat import read_beat
from hbn_foundation.training.supervision.incidents import read_incidents
from hbn_foundation.training.supervision.run_folder import RunFolder
from processes import alive, wait_for


@pytest.fixture
def server():
    server = ForkServer(("stand_in",), {"OMP_NUM_THREADS": "1"})
    yield server
    server.close()


def test_many_children_of_one_server(server, tmp_path):
    seconds = []
    for number in range(6):
        folder = RunFolder(tmp_path / str(number), {})
        started = time.monotonic()
        assert supervise(folder, start_child=server.start_child, pause=0.0)["weights"] == expected()
        seconds.append(time.monotonic() - started)
        folder.close()
    assert min(seconds[1:]) < 1.0  # the first waits for the server


def test_a_server_that_is_killed_takes_its_child_along_and_comes_back(run, server):
    """The child is recorded as killed; the next one is of a new server."""
    found = {}

    def kill_the_server():
        beat = wait_for(lambda: (b := read_beat(run.path)) and b.step > 3 and b)
        found["child"] = beat.pid
        os.kill(server.process.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill_the_server)
    thread.start()
    result = supervise(run, start_child=server.start_child, pause=0.05)
    thread.join()
    assert result["weights"] == expected()
    (incident,) = read_incidents(run.path)
    assert (incident.kind, "SIGKILL" in incident.what) == ("died", True)
    assert not alive(found["child"])


CLIENT = """
import sys, json
from pathlib import Path
import stand_in
from hbn_foundation.training.supervision.run_folder import RunFolder
from hbn_foundation.training.supervision.fork_server import ForkServer
server = ForkServer(("stand_in",))
run = RunFolder(Path(sys.argv[1]), {})
import threading, time
def tell():
    while not (server.process):
        time.sleep(0.02)
    Path(sys.argv[2]).write_text(str(server.process.pid))
threading.Thread(target=tell).start()
stand_in.supervise(run, start_child=server.start_child, pause=5.0,
                   limits={"step_least": 100.0, "first_step": 100.0})
"""


def test_server_and_child_end_with_their_client(tmp_path):
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(tmp_path / "run"), str(tmp_path / "pid")]
    )
    pid = int(wait_for(lambda: (p := tmp_path / "pid").is_file() and p.read_text()))
    beat = wait_for(lambda: (b := read_beat(tmp_path / "run")) and b.pid and b)
    assert alive(pid)
    assert alive(beat.pid)
    client.kill()
    client.wait()
    wait_for(lambda: not alive(pid) and not alive(beat.pid))


def test_a_server_that_cannot_import_says_so(run):
    server = ForkServer(("no_such_module",))
    with pytest.raises(ForkServerError, match="ended with status 1"):
        supervise(run, start_child=server.start_child)
