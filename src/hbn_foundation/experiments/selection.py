"""Lists of the jobs of a sweep: as records of a JSON file, read back, filtered."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hbn_foundation.errors import UserError
from hbn_foundation.experiments.job import Entry
from hbn_foundation.experiments.params import JobParams
from hbn_foundation.experiments.planner import Plan
from hbn_foundation.experiments.specs import BASE, FINETUNE, BaseSpec, FinetuneSpec, Spec
from hbn_foundation.experiments.store import Store
from hbn_foundation.experiments.worker import base_not_found
from hbn_foundation.params import dotted


def records(specs: Iterable[BaseSpec | FinetuneSpec]) -> list[dict[str, Any]]:
    """Write specs as plain values, each with its name, its hash and that of its base."""
    result = []
    for spec in specs:
        row: dict[str, Any] = {"id": spec.id, "hash": spec.hash}
        if isinstance(spec, FinetuneSpec):
            row["base_hash"] = spec.base_hash
        result.append({**row, "spec": spec.model_dump(mode="json")})
    return result


def plan_of(base_jobs: Any, finetune_jobs: Any) -> Plan:
    """Read a plan back from the records of its jobs."""
    return Plan(
        from_records(base_jobs, BASE, "base_jobs.json"),
        from_records(finetune_jobs, FINETUNE, "finetune_jobs.json"),
    )


def from_records(rows: Any, kind: str, where: str) -> list[Any]:
    """Read specs back, compare each with its hash, and leave out those that come again.

    Parameters
    ----------
    rows
        Of `records`; the hash may be missing, the spec may not.
    kind
        `base` or `finetune`.
    where
        The file, for messages.

    Raises
    ------
    UserError
        Something that is no job, or a hash that its fields do not give.
    """
    model: type[Spec] = BaseSpec if kind == BASE else FinetuneSpec
    if not isinstance(rows, list):
        raise UserError(f"{where}: expected a list of jobs, found {type(rows).__name__}")
    found: dict[str, Any] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not isinstance(row.get("spec"), dict):
            raise UserError(f"{where}: job {number} has no spec; expected hash and spec")
        try:
            spec = model.model_validate(row["spec"])
        except UserError as error:
            raise UserError(f"{where}: job {number}: {error}") from None
        spec.check_hash(str(row.get("hash", spec.hash)), f"{where}: job {number}")
        found.setdefault(spec.hash, spec)
    return list(found.values())


def read_jobs(path: str, kind: str, parameter: str) -> list[Any]:
    """Read a file of jobs.

    Raises
    ------
    UserError
        As `from_records`; when there is no such file.
    """
    try:
        rows = json.loads(Path(path).read_text())
    except OSError as error:
        raise UserError(f"{parameter}={path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: no valid JSON ({error})") from None
    return from_records(rows, kind, path)


def select(plan: Plan, params: JobParams, store: Store) -> Plan:
    """Take other jobs from files where these are named, then only those that are asked for.

    Bases that no job needs any more are left out, unless they are what is asked for.

    Raises
    ------
    UserError
        A base that is neither planned nor in the store; a filter that leaves nothing.
    """
    bases, finetunings = plan.bases, plan.finetunings
    if params.base_jobs is not None:
        bases = read_jobs(params.base_jobs, BASE, "sweep.jobs.base_jobs")
    if params.finetune_jobs is not None:
        finetunings = read_jobs(params.finetune_jobs, FINETUNE, "sweep.jobs.finetune_jobs")
    plan = plan._replace(bases=bases, finetunings=finetunings)
    if params.only is not None:
        plan = _only(plan, params.only)
    if params.where:
        plan = _where(plan, params.where)
    if params.only_bases:
        plan = plan._replace(finetunings=[])
    for spec in plan.finetunings:
        known = spec.base_hash is None or spec.base_hash in plan.base_of
        if not known and not store.has(str(spec.base_hash)):
            base = Entry(BASE, str(spec.base_hash))
            raise UserError(f"{spec.id}: {base_not_found(base, store.root)}")
    return plan


def _only(plan: Plan, name: str) -> Plan:
    kind, _, start = name.partition("-")
    if kind not in (BASE, FINETUNE) or not start:
        raise UserError(
            f"sweep.jobs.only={name}: expected base-<hash> or finetune-<hash>, as the plan has them"
        )
    specs: list[Any] = list(plan.bases if kind == BASE else plan.finetunings)
    found = [spec for spec in specs if spec.hash.startswith(start)]
    if len(found) != 1:
        several = f"{len(found)} jobs begin so" if found else "no such job in the plan"
        raise UserError(f"sweep.jobs.only={name}: {several}")
    if kind == BASE:
        return plan._replace(bases=found, finetunings=[])
    needed = [base for base in plan.bases if base.hash == found[0].base_hash]
    return plan._replace(bases=needed, finetunings=found)


def _where(plan: Plan, where: Mapping[str, Any]) -> Plan:
    of_bases = {base.hash: _named(base) for base in plan.bases}
    of_tunings = {
        spec.hash: {**of_bases.get(str(spec.base_hash), {}), **_named(spec)}
        for spec in plan.finetunings
    }
    wanted = {
        field: value
        for name, value in where.items()
        for field in _whole_names(name, of_bases, of_tunings)
    }
    finetunings = [spec for spec in plan.finetunings if matches(of_tunings[spec.hash], wanted)]
    needed = {spec.base_hash for spec in finetunings}
    bases = [
        base
        for base in plan.bases
        if (base.hash in needed if plan.finetunings else matches(of_bases[base.hash], wanted))
    ]
    if not finetunings and not bases:
        raise UserError(f"sweep.jobs.where={dict(where)}: no job has these values")
    return plan._replace(bases=bases, finetunings=finetunings)


def _named(spec: BaseSpec | FinetuneSpec) -> dict[str, Any]:
    """Fields by names that say whose they are: `base.seed`, `finetune.mode`."""
    kind = BASE if isinstance(spec, BaseSpec) else FINETUNE
    return {f"{kind}.{name}": value for name, value in fields(spec).items()}


def _whole_names(name: str, *groups: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say whose a field is, where its name does not: of a base, or of a job that needs none.

    Raises
    ------
    UserError
        When no job has it, or bases and fine-tunings have different values of it.
    """
    known = {field for group in groups for found in group.values() for field in found}
    meant = [field for field in (name, f"{BASE}.{name}", f"{FINETUNE}.{name}") if field in known]
    if not meant:
        raise UserError(
            f"sweep.jobs.where.{name}: no job has such a field; known are target, mode, "
            "target_data_pct, seed_finetune, encoder.hidden_dim, base.trainer.learning_rate, …"
        )
    if len(meant) > 1 and any(
        set(meant) <= found.keys() and found[meant[0]] != found[meant[1]]
        for found in groups[-1].values()
    ):
        raise UserError(
            f"sweep.jobs.where.{name}: bases and fine-tunings have their own; "
            f"expected {' or '.join(meant)}"
        )
    return meant


def fields(spec: BaseSpec | FinetuneSpec) -> dict[str, Any]:
    """All fields of a job by their dotted names; those of `tuning` without that word."""
    content = spec.model_dump(mode="json")
    if isinstance(spec, FinetuneSpec):
        content |= content.pop("tuning")
    else:
        content["n_base_participants"] = len(spec.subjects)
    return dict(dotted(content))


def matches(fields: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Tell whether a job has the values that are asked for, as far as it has the fields."""
    for name, wanted in where.items():
        values = wanted if isinstance(wanted, list | tuple) else [wanted]
        if name in fields and not any(
            fields[name] == value or str(fields[name]) == str(value) for value in values
        ):
            return False
    return True
