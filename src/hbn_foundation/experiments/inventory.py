"""What is in a store of bases: listed, shown, verified, cleared away."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.experiments.specs import BaseSpec
from hbn_foundation.experiments.store import METRICS, Store, find_key
from hbn_foundation.experiments.sync import Remote


def open_store(folder: str | Path) -> Store:
    """Open the store of bases in a folder.

    Raises
    ------
    UserError
        When there is none.
    """
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no store of bases here; kedro run --pipeline sweep makes one")
    return Store(Path(folder))


def listing(store: Store) -> str:
    """Describe each base in a line: hash, kind, subjects, width, seed, loss, seconds, size."""
    found: list[dict[str, Any]] = []
    for key in store.hashes():
        try:
            spec = BaseSpec.model_validate(store.spec(key))
            metrics = json.loads((store.path(key) / METRICS).read_text())
        except (OSError, ValueError, UserError) as error:
            found.append({"hash": key, "kind": f"unreadable ({error})"})
            continue
        about = spec.objective.name if spec.supervised is None else "labels"
        loss = metrics.get("validation_loss")
        found.append(
            {
                "hash": key,
                "kind": f"{spec.kind}, {about}",
                "subjects": f"{len(spec.train_subjects)} + {len(spec.validation_subjects)}",
                "width": spec.encoder.hidden_dim,
                "seed": spec.training.seed,
                "loss": None if loss is None else f"{loss:.4g}",
                "seconds": f"{metrics.get('seconds', float('nan')):.0f}",
                "MB": f"{store.size(key) / 1e6:.1f}",
            }
        )
    return pd.DataFrame(found).fillna("").to_string(index=False) if found else "no bases yet"


def show(store: Store, prefix: str) -> str:
    """Write all that is known of a base: its spec, metrics and environment, as JSON."""
    key = store.find(prefix)
    content: dict[str, Any] = {"hash": key, "folder": str(store.path(key))}
    for name in ("spec", "metrics", "environment"):
        path = store.path(key) / f"{name}.json"
        content[name] = json.loads(path.read_text()) if path.is_file() else None
    return json.dumps(content, indent=1)


def verify(store: Store, say: Callable[[str], Any]) -> int:
    """Compare all digests, and each spec with its hash; put what is damaged into quarantine.

    Returns
    -------
    int
        How many were damaged.
    """
    folders = sorted(path.name for path in store.root.glob("??/*") if path.is_dir())
    damaged = 0
    for key in folders:
        problem = store.damage(key)
        if problem is None:
            try:
                BaseSpec.model_validate(store.spec(key)).check_hash(key, "spec.json")
            except (UserError, OSError, ValueError) as error:
                problem = str(error)
        if problem is not None:
            damaged += 1
            aside = store.quarantine(key, problem)
            say(f"{key}: {problem}; put into {aside}")
    say(f"{len(folders) - damaged} of {len(folders)} bases are whole")
    return damaged


def send(store: Store, remote: Remote, keys: Iterable[str], say: Callable[[str], Any]) -> None:
    """Send bases to a URL, all of the store where none is named.

    Raises
    ------
    UserError
        A base that is damaged, or a URL that cannot be reached.
    """
    chosen = [store.find(key) for key in keys] or store.hashes()
    for key in chosen:
        problem = store.damage(key)
        if problem is not None:
            raise UserError(f"base {key}: {problem}; hbn-foundation bases verify puts it aside")
    sent = sum(remote.push(key, store) for key in chosen)
    say(f"{sent} sent to {remote.url}, {len(chosen) - sent} were there")


def bring(store: Store, remote: Remote, keys: Iterable[str], say: Callable[[str], Any]) -> None:
    """Fetch bases from a URL, all that are there where none is named.

    Raises
    ------
    UserError
        A base that is not there, or a URL that cannot be reached.
    """
    there = remote.hashes()
    chosen = [find_key(there, key, "base", remote.url) for key in keys] or there
    missing = [key for key in chosen if store.get(key) is None]
    for key in missing:
        if not remote.fetch(key, store):
            raise UserError(f"base {key}: damaged at {remote.url}; push it there once more")
    say(f"{len(missing)} fetched from {remote.url}, {len(chosen) - len(missing)} were here")


def clear(store: Store, needed: Iterable[str] | None, dry: bool, say: Callable[[str], Any]) -> None:
    """Remove leftovers, and bases that are not needed.

    Parameters
    ----------
    store
        The store.
    needed
        Hashes that stay; None keeps all bases, and removes leftovers alone: quarantine and
        unfinished writes.
    dry
        Only say what would be removed.
    say
        Tells a line.
    """
    going = list(store.leftovers())
    if needed is not None:
        wanted = set(needed)
        going += [
            store.path(key) for key in store.hashes() if key not in wanted and not store.held(key)
        ]
    freed = 0
    for path in going:
        freed += sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        say(f"{'would remove' if dry else 'removed'} {path}")
        if not dry:
            store.remove(path)
    say(f"{len(going)} removed, {freed / 1e6:.1f} MB" if not dry else f"{len(going)} to remove")
