"""An ssh server on several loopback addresses, each a host with a home folder of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncssh


class NoPassword(asyncssh.SSHServer):
    """Lets everybody in."""

    def begin_auth(self, username: str) -> bool:
        """Ask for nothing."""
        return False


class Hosts:
    """Runs what clients ask for as processes in the home folder of the address they called.

    Parameters
    ----------
    folder
        Of the homes.
    addresses
        The hosts.
    """

    def __init__(self, folder: Path, addresses: tuple[str, ...]) -> None:
        self.folder = folder
        self.addresses = addresses
        self.port = 0
        self.groups: dict[str, list[int]] = {address: [] for address in addresses}
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._threads = ThreadPoolExecutor(32)  # each reads a stream
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Hosts:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        for address in self.addresses:
            self.kill(address)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._threads.shutdown()

    def home(self, address: str) -> Path:
        """Where processes of a host begin."""
        return self.folder / f"host-{address}"

    def kill(self, address: str) -> None:
        """Kill all that was started on a host."""
        for group in self.groups[address]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    def running(self, address: str) -> list[int]:
        """Give the groups of processes of a host that are still there."""
        found = []
        for group in self.groups[address]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, 0)
                found.append(group)
        return found

    @property
    def params(self) -> dict[str, Any]:
        """How to connect, as `sweep.engine.ssh`."""
        return {
            "hosts": list(self.addresses),
            "connect": {"port": self.port, "known_hosts": None, "username": "eeg",
                        "client_keys": None},
        }  # fmt: skip

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._loop.run_forever()

    async def _listen(self) -> None:
        keys = [asyncssh.generate_private_key("ssh-ed25519")]
        for address in self.addresses:
            self.home(address).mkdir(parents=True)
            listener = await asyncssh.listen(
                address, self.port, server_host_keys=keys, server_factory=NoPassword,
                process_factory=self._run, encoding=None,
            )  # fmt: skip
            self.port = listener.get_port()
        self._ready.set()

    async def _run(self, process: Any) -> None:
        address = process.get_extra_info("sockname")[0]
        # what Dask has set here for local workers is not on a host, such as to log nothing, where
        # the client waits for the address of the scheduler in its log
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
        child = subprocess.Popen(
            process.command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True, cwd=self.home(address), env=kept,
        )  # fmt: skip
        self.groups[address].append(child.pid)
        with contextlib.suppress(OSError, asyncssh.Error):  # the client is gone
            await asyncio.gather(
                self._pass_on(child.stdout, process.stdout),
                self._pass_on(child.stderr, process.stderr),
            )
            process.exit(await self._loop.run_in_executor(self._threads, child.wait))

    async def _pass_on(self, source: Any, target: Any) -> None:
        with source:
            while text := await self._loop.run_in_executor(self._threads, source.read1, 65536):
                target.write(text)
