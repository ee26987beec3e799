"""Parameters of experiments: what is compared or varied, and where jobs run."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from hbn_foundation.evaluation.methods import FINE_TUNED, SCRATCH
from hbn_foundation.evaluation.params import Baseline, RepeatParams, each_once
from hbn_foundation.params import Params
from hbn_foundation.training.finetuning_params import Strategy


class SplitRules(Params):
    """How a target's windows are divided, and what is drawn from its training part."""

    test_share: float = Field(
        0.3, description="Last share of a task's only run that is tested on.", gt=0, lt=1
    )
    validation_share: float = Field(
        0.25, description="Last share of the early windows that chooses the epoch.", gt=0, lt=1
    )
    gap_seconds: float = Field(
        2.0, description="Time left out between training, validation and test windows.", ge=0
    )
    min_per_class: int = Field(
        4, description="Fewest training windows of a class, whatever the share.", ge=1
    )


class StudyParams(Params):
    """Participants, targets, and how the data of base and target are divided."""

    participants: Literal["all"] | int | tuple[str, ...] = Field(
        "all", description="Who takes part: all, the first n by name, or a list."
    )
    targets: Literal["all"] | int | tuple[str, ...] = Field(
        "all", description="Who is left out in turn: all that take part, the first n, or a list."
    )
    base_validation_share: float = Field(
        0.2, description="Share of the base subjects that choose the base's epoch.", gt=0, lt=1
    )
    seed: int = Field(0, description="Of the order in which subjects join a base.", ge=0)
    rules: SplitRules = Field(SplitRules(), description="How the target's windows are divided.")

    @field_validator("participants", "targets")
    @classmethod
    def _at_least_one(cls, value: Any) -> Any:
        if isinstance(value, int) and value < 1:
            raise ValueError("expected all, a number from 1, or a list of subjects")
        return value


class GridParams(Params):
    """What is varied: each list is an axis, and all are crossed."""

    base: dict[str, Any] = Field(
        {},
        description="Of the base: kind (pretraining, supervised), n_base_participants (all, a "
        "number, a list of subjects), seed, and any parameter below encoder, objective, trainer, "
        "supervised.",
    )
    finetune: dict[str, Any] = Field(
        {},
        description="Of the fine-tuning: mode, target_data_pct, seed_finetune, target_share, "
        "early_stopping_patience_target, and any parameter below head, plan, rates, "
        "regularisation, trainer.",
    )
    file: str | None = Field(
        None, description="A YAML file with base and finetune, to be used instead of those here."
    )


class JobParams(Params):
    """Which of the planned jobs run."""

    base_jobs: str | None = Field(None, description="A file of base jobs, instead of the grid.")
    finetune_jobs: str | None = Field(
        None, description="A file of fine-tuning jobs, instead of the grid."
    )
    skip_base_training: bool = Field(False, description="Train no base; all are to be there.")
    only_bases: bool = Field(False, description="Fine-tune nothing.")
    only: str | None = Field(
        None,
        description="One job by its name, base-<hash> or finetune-<hash>, in the foreground; the "
        "first digits of the hash are enough.",
    )
    where: dict[str, Any] = Field(
        {},
        description="Only jobs with these values: a field (target, mode, encoder.hidden_dim, "
        "base.trainer.batch_size, …) and a value or a list of them.",
    )


class SSHParams(Params):
    """Hosts that are reached by ssh."""

    hosts: tuple[str, ...] = Field(
        description="The first runs Dask's scheduler, all others a worker each.", min_length=2
    )
    workers_per_host: int = Field(1, description="Worker processes on each host.", ge=1)
    python: str | None = Field(None, description="Python there; this one where not given.")
    connect: dict[str, Any] = Field(
        {}, description="Options of asyncssh.connect: port, username, client_keys, known_hosts."
    )


class SlurmParams(Params):
    """Jobs of SLURM that are workers."""

    jobs: int = Field(4, description="How many.", ge=1)
    queue: str | None = Field(None, description="Partition.")
    account: str | None = Field(None, description="Account that pays.")
    cores: int = Field(1, description="Cores of each.", ge=1)
    memory: str = Field("4GB", description="Memory of each.")
    walltime: str = Field("04:00:00", description="Longest time of each.")
    extra: tuple[str, ...] = Field((), description="More directives, such as --gres=gpu:1.")
    prologue: tuple[str, ...] = Field((), description="Commands before the worker starts.")


class EngineParams(Params):
    """Where jobs run, how many at once, and how often one is tried again."""

    engine: Literal["inline", "local", "ssh", "slurm"] = Field(
        "local",
        description="inline: one after another; local: worker processes here; ssh, slurm: on "
        "other machines.",
    )
    workers: int | None = Field(
        None, description="local: how many; by default one per core, or one per GPU.", ge=1
    )
    threads: int = Field(1, description="Threads of each job.", ge=1)
    device: Literal["cpu", "cuda"] | None = Field(
        None, description="Where jobs compute; by default as found on this machine."
    )
    gpus: int = Field(1, description="local: GPUs of this machine, one worker each.", ge=1)
    retries: int = Field(
        2, description="How often a job that died or hung is tried again; errors never are.", ge=0
    )
    ssh: SSHParams | None = Field(None, description="Of engine: ssh.")
    slurm: SlurmParams | None = Field(None, description="Of engine: slurm.")
    cluster_file: str | None = Field(
        None, description="A YAML or JSON file with engine, ssh and slurm, instead of those here."
    )

    @model_validator(mode="after")
    def _options_given(self) -> Self:
        if self.cluster_file is None and self.engine == "ssh" and self.ssh is None:
            raise ValueError("engine: ssh needs ssh.hosts")
        return self


class SyncParams(Params):
    """How results reach workers that share no file system with this machine."""

    sync_url: str | None = Field(
        None,
        description="Where workers share no file system: a URL of fsspec (s3://…, sftp://…) that "
        "results go through.",
    )
    worker_folder: str = Field(
        "sweep-{host}",
        description="With sync_url: a worker's own folder; {host} and {worker} are filled in, the "
        "latter is another one after each start of a cluster by ssh.",
    )
    skip_sync: bool = Field(False, description="Fetch no base; workers are to have them.")


class StoreParams(SyncParams):
    """Where the bases, results and unfinished jobs of a sweep lie."""

    bases: str = Field("data/06_models/bases", description="Folder of the trained bases.")
    results: str = Field("data/07_model_output/finetunings", description="Folder of the results.")
    experiments: str = Field(
        "data/07_model_output/experiments",
        description="Folder of the tables, and of links to the results, by prefix and fold.",
    )
    work: str = Field("data/06_models/sweep", description="Folder of unfinished jobs.")
    keep_weights: bool = Field(
        False,
        description="Keep the weights of each fine-tuning; results without are made again.",
    )


class ExperimentParams(EngineParams, SyncParams):
    """Where the jobs of cross-validation, comparisons and learning curves run."""


class SweepRecipe(Params):
    """Participants of a sweep, what it varies, and where its jobs run."""

    prefix: str = Field(
        "sweep",
        description="Name of this set of results: its tables and links lie in a folder of that "
        "name. Bases and results are shared with other prefixes.",
        pattern=r"^\w[\w.-]*$",
    )
    study: StudyParams = Field(StudyParams(), description="Participants, and targets.")
    grid: GridParams = Field(GridParams(), description="What is varied; each list is an axis.")
    jobs: JobParams = Field(JobParams(), description="Which of the planned jobs run.")
    engine: EngineParams = Field(EngineParams(), description="Where jobs run.")
    store: StoreParams = Field(StoreParams(), description="Where results are kept.")


ComparedScore = Literal[
    "within_auroc", "window_auroc", "recording_auroc", "balanced_accuracy", "f1",
    "accuracy", "kappa", "within_accuracy", "within_kappa", "within_f1",
    "nrmse", "recording_nrmse", "mae", "recording_mae",
]  # fmt: skip


class ComparisonParams(Params):
    """Which ways of fine-tuning are compared, over which folds and seeds."""

    plans: tuple[Strategy, ...] = Field(
        ("head_only", "full", "scratch", "two_phase", "gated", "gradual", "gradient_guided"),
        min_length=1,
        description="Strategies compared; all else of a plan is as in finetuning.plan.",
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0,), min_length=1, description="Each plan is fine-tuned once per seed in each fold."
    )
    labelled_subjects: int | None = Field(
        None,
        ge=2,
        description="Training subjects, drawn by the folds' seed, that keep their labels; all "
        "others serve pretraining only. null: all of them.",
    )
    score: ComparedScore | None = Field(
        None,
        description="What is compared; null is window_auroc for classes, within_auroc where "
        "scores are stratified, and nrmse for numbers.",
    )
    repeats: RepeatParams = Field(RepeatParams(), description="The subject splits.")
    work_dir: str = Field(
        "data/06_models/finetuning_comparison",
        description="Folder of finished runs, from which a run that was killed resumes.",
    )

    _each_once = field_validator("plans", "seeds")(each_once)


class CurveParams(Params):
    """Over which amounts of labelled subjects scores are followed, and how often."""

    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.1, 0.25, 0.5, 0.75, 1.0),
        min_length=1,
        description="Shares of the training subjects that keep their labels, each within the "
        "next; at least two subjects. Of folds of unequal size those of the smallest.",
    )
    subjects: tuple[Annotated[int, Field(ge=2)], ...] | None = Field(
        None,
        min_length=1,
        description="Numbers of labelled subjects, instead of shares of the training subjects.",
    )
    repeats: RepeatParams | None = Field(
        None,
        description="Repeated subject splits, so that each subject is tested; in each fold the "
        "encoder is pretrained anew. Null: the one split, and the foundation checkpoint.",
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0, 1, 2), min_length=1, description="Each draws other subsets, and trains otherwise."
    )
    same_steps: bool = Field(
        True,
        description="Whether a smaller subset is gone through more often between two validations, "
        "so that every run has as many steps and validations; else few subjects also mean a short "
        "training. Epochs that a plan itself names stay.",
    )
    n_jobs: int = Field(1, ge=1, description="Runs at once on a CPU, each a process of its own.")
    work_dir: str = Field(
        "data/06_models/learning_curve",
        description="Folder of finished runs, from which one that was killed resumes.",
    )

    _each_once = field_validator("shares", "seeds", "subjects")(
        lambda value: value if value is None else each_once(value)
    )


class LearningCurveParams(CurveParams):
    """The learning curves of both challenges, whose baselines are fitted with each model."""

    KEY: ClassVar[str] = "learning_curve.runs"
    frozen: ClassVar[tuple[str, ...]] = ()
    scratch: bool = Field(
        True, description="Whether a model from random weights is trained beside each."
    )

    @property
    def trained(self) -> tuple[str, ...]:
        """Models that are trained."""
        return (FINE_TUNED, SCRATCH) if self.scratch else (FINE_TUNED,)

    @property
    def trained_seeds(self) -> tuple[int, ...]:
        """Those of the seeds that models are trained with."""
        return self.seeds


FrozenRow = Literal["pretrained", Baseline, "pretrained_and_input"]


class LabelCurveParams(CurveParams):
    """The learning curve of a label of any kind, frozen features and classical methods beside it.

    Subsets are drawn by `seeds`; fits of frozen features take seconds, so that all of them are
    fitted, while `trained_seeds` are trained.
    """

    KEY: ClassVar[str] = "finetuning_learning_curve.runs"
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        tuple(range(10)), min_length=1, description="Each draws other subsets of the subjects."
    )
    frozen: tuple[FrozenRow, ...] = Field(
        get_args(FrozenRow)[:-2],
        description="Methods that are fitted: a linear probe of frozen features, or classical.",
    )
    trained: tuple[Literal["fine_tuned", "scratch"], ...] = Field(
        ("fine_tuned", "scratch"),
        description="Models that are trained: from the encoder, from random weights.",
    )
    trained_seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0,), min_length=1, description="Those of the seeds that models are trained with."
    )
    work_dir: str = Field(
        "data/06_models/label_curve",
        description="Folder of finished runs, from which one that was killed resumes.",
    )

    _all_once = field_validator("frozen", "trained", "trained_seeds")(each_once)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if more := sorted(set(self.trained_seeds) - set(self.seeds)):
            raise ValueError(f"trained_seeds has {more[0]}; expected some of seeds")
        if not self.frozen and not self.trained:
            raise ValueError("frozen and trained are empty; expected a method")
        return self
