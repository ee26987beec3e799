"""Lists of the jobs of a sweep: as records of a JSON file, read back, chosen by their fields."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from hbn_foundation.errors import UserError, first_few
from hbn_foundation.experiments.job import Entry
from hbn_foundation.experiments.params import JobParams
from hbn_foundation.experiments.planner import Plan
from hbn_foundation.experiments.specs import BASE, FINETUNE, BaseSpec, FinetuneSpec, Spec
from hbn_foundation.experiments.store import Store
from hbn_foundation.experiments.worker import base_not_found
from hbn_foundation.params import dotted

#: Fields that name a job or its data; they are no values that are tried.
NAMES = {"train_subjects", "validation_subjects", "data", "target", "fold", "base_hash"}
SHOWN = 12


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
    bases, finetunings = plan
    if params.base_jobs is not None:
        bases = read_jobs(params.base_jobs, BASE, "sweep.jobs.base_jobs")
    if params.finetune_jobs is not None:
        finetunings = read_jobs(params.finetune_jobs, FINETUNE, "sweep.jobs.finetune_jobs")
    plan = Plan(bases, finetunings)
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
    found = [spec for specs in plan for spec in specs if spec.id.startswith(name)]
    if len(found) != 1:
        several = f"{len(found)} jobs begin so" if found else "no such job in the plan"
        raise UserError(f"sweep.jobs.only={name}: {several}")
    return plan.part({found[0].id})


def _where(plan: Plan, where: Mapping[str, Any]) -> Plan:
    fields = fields_of(plan)
    rows = {spec.id: fields[spec.id] for spec in plan.finetunings or plan.bases}
    chosen: list[str] = []
    for name, wanted in dotted(where):
        meant = _whole_names(name, rows)
        texts = {_text(value) for value in (wanted if isinstance(wanted, list) else [wanted])}
        # a job that lacks a field is not asked for it
        there = {job: {_text(row[field]) for field in meant if field in row}
                 for job, row in rows.items()}  # fmt: skip
        rows = {job: row for job, row in rows.items() if there[job] <= texts}
        if not rows:
            others = f" of those chosen by {first_few(chosen)}" if chosen else ""
            raise UserError(
                f"sweep.jobs.where.{name}={wanted}: no job{others} has this value; there is "
                f"{first_few(dict.fromkeys(chain(*there.values())), SHOWN)}"
            )
        chosen.append(name)
    return plan.part(set(rows))


def _text(value: Any) -> str:
    """Write a value so that 1 and 1.0 are one."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _whole_names(name: str, rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say whose a field is, where its name does not: of a base, or of a job that needs none.

    Raises
    ------
    UserError
        When no job has it, or bases and fine-tunings have different values of it.
    """
    known = {field for row in rows.values() for field in row}
    meant = [field for field in (name, f"{BASE}.{name}", f"{FINETUNE}.{name}") if field in known]
    if not meant:
        differing = [field.partition(".")[2] for field in varied(rows.values())]
        raise UserError(
            f"sweep.jobs.where.{name}: no job has such a field; the jobs differ in "
            f"{first_few(dict.fromkeys(differing), SHOWN)}"
        )
    if any(len({str(row[field]) for field in meant if field in row}) > 1 for row in rows.values()):
        raise UserError(
            f"sweep.jobs.where.{name}: bases and fine-tunings have their own; "
            f"expected {' or '.join(meant)}"
        )
    return meant


def fields_of(plan: Plan) -> dict[str, dict[str, Any]]:
    """All fields of each job by its id, as `base.…` and `finetune.…`; a job has those of its base.

    The groups of `tuning` are named without that word.
    """
    found: dict[str, dict[str, Any]] = {}
    specs: list[BaseSpec | FinetuneSpec] = [*plan.bases, *plan.finetunings]
    for spec in specs:
        content: dict[str, Any] = spec.model_dump(mode="json")
        of_base: dict[str, Any] = {}
        if isinstance(spec, FinetuneSpec):
            content |= content.pop("tuning")
            of_base = found.get(Entry(BASE, str(spec.base_hash)).id, {})
        else:
            content["n_base_participants"] = len(spec.subjects)
        own = {f"{spec.JOB}.{name}": value for name, value in dotted(content)}
        found[spec.id] = of_base | own
    return found


def varied(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Name the fields in which jobs differ."""
    seen: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.items():
            seen.setdefault(name, set()).add(json.dumps(value))
    return [name for name, values in seen.items() if len(values) > 1]
