"""Refuse names of parameters that no node reads."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from hbn_foundation.errors import UserError


class ParameterNames:
    """Refuse parameter names that no node reads.

    The value of a known group is checked by its pydantic model; a group whose own name is
    misspelt would be ignored without a word.
    """

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Compare the configured names with those that the pipelines ask for."""
        known = known_parameters()
        for name in _groups(context.config_loader["parameters"]):
            if name not in known:
                close = get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
                raise UserError(f"parameter {name}: no node reads it; {hint}")

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
