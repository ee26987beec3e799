"""Commands that use a checkpoint on recordings of one's own, or give it away."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

import click

from hbn_foundation.errors import UserError, count_of
from hbn_foundation.progress import say
from hbn_foundation.project import Command, newest, open_project, project_folder

HELP = "Folder of a checkpoint or id on the Hugging Face hub; by default the project's newest"
OF_ENV = "Environment whose newest checkpoint is taken."


def _options(output: str, checkpoint: str) -> Any:
    """Give the arguments of a command that reads recordings with a checkpoint."""
    options = (
        click.argument("files", nargs=-1, required=True),
        click.option("--output", "-o", type=click.Path(path_type=Path), default=output,
                     help=f"Where the table goes; by default {output}."),
        click.option("--checkpoint", help=f"{HELP} {checkpoint}."),
        click.option("--env", "-e", help=OF_ENV),
        click.option("--jobs", type=int, default=-1,
                     help="Processes that clean files; by default one for each core."),
    )  # fmt: skip
    return lambda function: reduce(lambda made, option: option(made), reversed(options), function)


@click.command(cls=Command)
@_options("features.parquet", "foundation_checkpoint")
@click.option("--recentre", is_flag=True, help="Relative to the mean of each recording.")
@click.option("--denoise", is_flag=True, help="With --recentre: limit artefacts, filter noise.")
def embed(
    files: tuple[str, ...], output: Path, checkpoint: str | None, env: str | None, jobs: int,
    recentre: bool, denoise: bool,
) -> None:  # fmt: skip
    """Write the features of recordings: FILES are EEG files or BIDS roots."""
    _check_output(output, ".parquet")
    name = checkpoint or _newest("foundation", env)
    with _told():
        from hbn_foundation.embedding.embedder import Embedder

        embedder = Embedder(name, recentre=recentre, denoise=denoise, on_error="skip", n_jobs=jobs)
        table: Any = embedder.embed(list(files), as_frame=True)
    table.to_parquet(output, index=False)
    n_features = count_of(table.shape[1] - 3, "feature")
    _say_result(table, f"{n_features} each, by {name}", [output])
    code = f'import pandas; print(pandas.read_parquet("{output}"))'
    click.echo(f"Next: python -c '{code}'")


@click.command(cls=Command)
@_options("predictions.tsv", "finetuning_checkpoint")
def predict(
    files: tuple[str, ...], output: Path, checkpoint: str | None, env: str | None, jobs: int
) -> None:
    """Write what a fine-tuned model predicts for recordings, and draw it over time.

    FILES are EEG files or BIDS roots. The figure lies beside the table.
    """
    _check_output(output, ".tsv")
    name = checkpoint or _newest("finetuning", env)
    with _told():
        from hbn_foundation.embedding.prediction import predict_recordings
        from hbn_foundation.evaluation.figures.over_time import over_time_figure

        table = predict_recordings(name, list(files), skip=True, n_jobs=jobs)
    table.to_csv(output, sep="\t", index=False, float_format="%.6g")
    figure = output.with_suffix(".png")
    over_time_figure(table).savefig(figure)
    _say_result(table, f"by {name}", [output, figure])
    click.echo(f"Next: hbn-foundation embed {' '.join(files)} --checkpoint {name}")


@click.command(cls=Command)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--checkpoint", help=f"{HELP} foundation_checkpoint.")
@click.option("--env", "-e", help=OF_ENV)
@click.option("--licence", help="Of the weights, as the hub names it: cc-by-sa-4.0.")
@click.option("--push-to-hub", "repository", help="Send it to this repository of the hub, too.")
@click.option("--private", is_flag=True, help="A new repository is private.")
def export(
    folder: Path, checkpoint: str | None, env: str | None, licence: str | None,
    repository: str | None, private: bool,
) -> None:  # fmt: skip
    """Write a checkpoint into FOLDER to give it away: weights, config, model card, no names."""
    from hbn_foundation.embedding import export as exporting

    name = checkpoint or _newest("foundation", env)
    there = exporting.export(name, folder, licence)
    click.echo(f"Results: {there} ({', '.join(sorted(path.name for path in there.iterdir()))})")
    if repository:
        click.echo(f"Sent to {exporting.push(there, repository, private)}")
    click.echo(f"Next: hbn-foundation embed <file> --checkpoint {repository or there}")


@click.command(cls=Command)
@click.argument("source")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default="stream.tsv",
    help="Where the table goes; by default stream.tsv.",
)
@click.option("--checkpoint", help=f"{HELP[:-1]} foundation_checkpoint.")
@click.option("--env", "-e", help="Environment whose newest checkpoint is taken.")
@click.option(
    "--stride",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds from one window to the next; by default their length.",
)
@click.option(
    "--chunk",
    type=click.FloatRange(min=0, min_open=True),
    default=0.04,
    help="Seconds that arrive at once; by default 0.04.",
)
@click.option("--recentre", is_flag=True, help="Subtract the mean of all windows so far.")
@click.option("--fast", is_flag=True, help="As fast as possible, not in real time.")
@click.option("--lsl", is_flag=True, help="SOURCE is the name or type of an LSL stream.")
def stream(
    source: str, output: Path, checkpoint: str | None, env: str | None, lsl: bool, **given: Any
) -> None:  # fmt: skip
    """Write features or predictions of windows while SOURCE, an EEG file, is played in real time.

    Filters are causal: features differ from those of embed.
    """
    from hbn_foundation.embedding import streaming
    from hbn_foundation.embedding.embedder import find_checkpoint
    from hbn_foundation.training.checkpoint import Checkpoint

    _check_output(output, ".tsv")
    model = Checkpoint.load(find_checkpoint(checkpoint or _newest("foundation", env)))
    with output.open("w") as file:
        delays = streaming.write_stream(model, source, file, lsl=lsl, **given)
    click.echo(f"{count_of(len(delays), 'window')}; from the last sample to the answer "
               f"{streaming.delays_text(delays)}")  # fmt: skip
    click.echo(f"Results: {output}")


def _newest(pipeline: str, env: str | None) -> str:
    """Return the folder of the newest checkpoint of the project."""
    try:
        project_folder()
    except UserError as error:
        raise UserError(f"{error}, or give --checkpoint") from None
    made_by = f"kedro run{f' --env {env}' if env else ''} --pipeline {pipeline}"
    entry = "foundation_checkpoint" if pipeline == "foundation" else f"{pipeline}.checkpoint"
    with open_project(env) as project:
        return str(project.project_path / newest(project, entry, made_by))


def _check_output(output: Path, ending: str) -> None:
    if output.suffix != ending:
        raise UserError(f"--output {output}: expected a name that ends with {ending}")
    if not output.absolute().parent.is_dir():
        raise UserError(f"--output {output}: there is no such folder")


@contextmanager
def _told() -> Iterator[None]:
    """Print warnings as lines of the log."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("once", category=UserWarning, module="hbn_foundation")
        warnings.showwarning = lambda message, *_, **__: say(str(message))
        yield


def _say_result(table: Any, what: str, paths: list[Path]) -> None:
    n_recordings = table[["subject", "recording"]].drop_duplicates().shape[0]
    windows = f"{count_of(len(table), 'window')} of {count_of(n_recordings, 'recording')}"
    click.echo(f"{windows}, {what}")
    click.echo(f"Results: {', '.join(map(str, paths))}")
