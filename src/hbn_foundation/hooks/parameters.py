"""Refuse parameters that no node reads, and values that its model refuses."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from hbn_foundation.errors import UserError


class ParameterNames:
    """Refuse parameter names that no node reads, and values, before Kedro makes the models.

    Kedro would ignore a group whose own name is misspelt, and has its own words for wrong values.
    """

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Compare the configured names with those that the pipelines ask for; check the values."""
        from hbn_foundation.pipeline_registry import register_pipelines
        from hbn_foundation.pipelines.reference import parameter_groups

        parameters = context.config_loader["parameters"]
        known = known_parameters()
        for name in _groups(parameters):
            if name not in known:
                close = get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
                raise UserError(f"parameter {name}: no node reads it; {hint}")
        for name, model in parameter_groups(register_pipelines()).items():
            values = parameters
            for part in name.split("."):
                values = values.get(part) if isinstance(values, dict) else values
            try:
                model.model_validate({} if values is None else values)
            except UserError as error:
                key = re.match(r"[\w.]+[=:]", str(error)) is not None
                raise UserError(f"{name}{'.' if key else ': '}{error}") from None

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Compare the parameters of a pretraining with those of the signals and windows."""
        if not any(node.name == "pretrain_encoder" for node in pipeline.nodes):
            return
        from hbn_foundation.evaluation.preflight import check_parameters

        recipe, window, cleaning = (
            catalog.load(f"params:{name}")
            for name in ("foundation", "ingestion.windows", "ingestion.cleaning")
        )
        check_parameters(recipe, window, cleaning.sfreq, cleaning.h_freq)


def known_parameters() -> list[str]:
    """Return the dotted names of all parameter groups that some node reads."""
    from hbn_foundation.pipeline_registry import register_pipelines
    from hbn_foundation.pipelines.reference import parameter_groups

    pipelines = register_pipelines()
    inputs = set().union(*(pipeline.inputs() for pipeline in pipelines.values()))
    names = {name.removeprefix("params:") for name in inputs if name.startswith("params:")}
    for name, model in parameter_groups(pipelines).items():
        if "." not in name:
            names |= {f"{name}.{field}" for field in model.model_fields}
    return sorted(names)


def _groups(parameters: dict[str, Any]) -> Iterator[str]:
    """Yield `pipeline.group` for every second-level key, and bare first-level values."""
    for pipeline, groups in parameters.items():
        if isinstance(groups, dict):
            yield from (f"{pipeline}.{group}" for group in groups)
        else:
            yield pipeline
