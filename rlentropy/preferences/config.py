"""Options of a campaign, and those that are left open by the kind of policy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from rlentropy.errors import InputError, in_range, one_of, whole
from rlentropy.preferences import acquisition, oracles
from rlentropy.preferences.campaign import Plan
from rlentropy.preferences.judges import Judge
from rlentropy.preferences.training import Training

BUILT_IN = ("uniform", "noisy-expert")  # references that are no run folder


class Defaults(NamedTuple):
    """Options that are left open, by the kind of policy."""

    segment_length: int
    pool: int  # rollouts of networks are dear
    train: Literal["newest", "all"]
    label_smoothing: float
    learning_rate: float


TABLE = Defaults(16, 16, "newest", 0.0, 0.02)
NETWORK = Defaults(50, 4, "all", 0.1, 0.01)

Approximator = Literal["auto", "tabular", "neural"]
Train = Literal["newest", "all"]
Entropy = Literal["exact", "monte-carlo", "rao-blackwell", "per-step", "stratified", "outcome"]
Routing = Literal["entropy", "margin", "contradiction", "random"]
LossName = Literal["dpo", "cpl", "ipo", "reward-model"]


@dataclass(frozen=True)
class Config:
    """Teaches a policy what is wanted, by labels of pairs, and asks for those that teach most.

    Rounds of candidates, choice, questions and learning. Use it where the reward is hard to write
    and easy to judge: --oracle human asks you, other oracles simulate a teacher. Tables where the
    model is known and spaces are Discrete, else networks.

    After Muldrew et al., "Active Preference Learning for Large Language Models", ICML 2024.

    Example::

        rlentropy active-preference --env-id FrozenLake-v1 --labels 160 --oracle bradley-terry:1std
        rlentropy active-preference --env-id CartPole-v1 --labels 40 --oracle human
    """

    CODE: ClassVar = ("judge",)  # options that may run code, for which no run folder is trusted

    labels: int = 640  # budget, in labels
    batch_size: int = 16  # labels a round
    schedule: tuple[int, ...] = ()  # labels at which rounds end, before those of --batch-size

    # what is asked:

    pool: int | None = None  # candidate pairs per label; default 16, of networks 4
    # rule that chooses what is asked; compare them in docs/results/preferences.md
    acquisition: str = "value-information"
    random_share: float | None = None  # of each batch, in [0, 1]; default: the rule's own
    power: float | None = None  # of scores in soft draws, > 0; default: the rule's own
    # what keeps a batch from asking the same twice
    diversity: Literal["none", "k-center", "dpp", "vendi"] = "none"
    keep_identical: bool = False  # choose pairs of identical segments like others, not last
    prompts: int = 8  # start states scored for each that an entropy filter keeps
    completions: int = 2  # segments a start; of more than two the pair of largest margin is kept
    # how start states are scored by the entropy rules; default exact, of networks rao-blackwell
    entropy: Entropy | None = None
    prior_scales: tuple[
        float, ...
    ] = ()  # of the models of the reward, nats, in (0, 1000]; default: the rule's own

    # who answers:

    # return, bootstrapped-return:τ, bradley-terry:τ, regret:τ, judge or human; τ in units of
    # return, or in standard deviations of the reference's (1std); options follow (,mistake=0.1)
    oracle: str = "return"
    # .jsonl or .csv of pairs that were labelled elsewhere, learnt from before the first question
    pairs: Path | None = None
    # who judges for --oracle judge: FILE.py:FUNCTION or MODULE:FUNCTION of your own, ensemble (the
    # belief about rewards from what people answered), or lm:FOLDER; default: noisy readings
    judge: str | None = None
    # who answers what the judge leaves: human, or a simulated teacher as --oracle has them
    person: str = "return"
    # which pairs the judge leaves: those of most entropy of its readings, smallest margin (mean
    # reading), largest contradiction of the policy, or random ones; default: contradiction with
    # --judge, else entropy
    routing: Routing | None = None
    human_share: float | None = None  # of a batch, rounded down, to the person; default 0.2
    human_labels: int | None = None  # of the person in all, spread evenly; in place of the share
    grace: float = 3.0  # seconds in which a person's last answer of a round can be taken back

    # segments and policy:

    segment_length: int | None = None  # steps; default 16, of networks 50
    # of segments, in tables: every live state, or the initial ones
    starts: Literal["all", "initial"] = "all"
    # uniform, noisy-expert (known models), or a run folder; what is trained starts there
    reference: str = "uniform"
    reference_floor: float = 0.01  # share of uniform actions in a table's reference, in (0, 1]
    approximator: Approximator = "auto"  # tables where observations and actions are Discrete
    # of a table's states; auto: rbf on grids, else one-hot; cells: a network on row and column
    features: Literal["auto", "one-hot", "rbf", "cells"] = "auto"
    reward_features: int = 128  # random ones, of the belief about rewards, for networks
    hidden: tuple[int, ...] = (32, 32)  # widths of a network's hidden layers

    # learning:

    loss: LossName = "dpo"  # what labels train; reward-model: rewards that are then planned for
    dpo_beta: float = 0.2  # temperature of the implicit reward, > 0
    segment_gamma: float = 1.0  # discount of a segment's log-ratios, in (0, 1]
    # probability that a label is wrong, in [0, 0.5); default 0, of networks 0.1, without which
    # labels of a sure teacher push them ever further
    label_smoothing: float | None = None
    conservative: float = 1.0  # λ of cpl, in (0, 1]
    with_reference: bool = True  # sums of log π/π_ref; else of log π, which cpl allows
    # on labels of the newest round, or on all; default newest, of networks all
    train: Train | None = None
    epochs: int = 3  # gradient steps a round
    reward_members: int = 5  # networks of the ensemble that --loss reward-model fits
    policy_steps: int = 4096  # environment steps a round in which a policy learns from it, networks
    learning_rate: float | None = None  # of Adam; default 0.02, of networks 0.01
    restart: bool = False  # learn from the reference anew each round
    fresh_optimiser: bool = False  # forget the moments of Adam each round
    update_reference: bool = False  # after each round the policy becomes the reference
    mixing: float | None = None  # r in [0, 1]: epochs draw from all rounds, newer ones more with r
    early_stop: float = 0.0  # share of its largest value at which the loss ends a round, 0: never

    # segments and policy:

    offline: bool = False  # candidates come from the reference, not from the policy
    temperature: float = 1.0  # of candidates' actions, > 0
    # start the second segment of a pair in a copy of the first one's environment, instead of by the
    # same reset seed; for environments whose seed doesn't fix where they start
    snapshots: bool = False
    horizon: int | None = None  # steps that truncate an episode of networks; default: the limit's
    evaluation_segments: int = 64  # behind each score of a network on the way
    final_episodes: int = 100  # behind the summary's mean_return, of networks

    def __post_init__(self) -> None:
        for name in ("labels", "batch_size", "prompts", "evaluation_segments"):
            whole(name, getattr(self, name), 1)
        if self.pool is not None:
            whole("pool", self.pool, 1)
        whole("reward_members", self.reward_members, 1)
        whole("policy_steps", self.policy_steps, 1)
        for name in ("final_episodes", "completions", "reward_features"):
            whole(name, getattr(self, name), 2)
        if list(self.schedule) != sorted(set(self.schedule)) or min(self.schedule, default=1) < 1:
            raise InputError(f"schedule must be rising label counts >= 1, got {self.schedule}")
        one_of("acquisition", self.acquisition, acquisition.RULES)
        if self.segment_length is not None:
            whole("segment_length", self.segment_length, 1)
        for width in self.hidden:
            whole("hidden", width, 1)
        in_range("reference_floor", self.reference_floor, "(0, 1]")
        in_range("temperature", self.temperature, "(0, inf)")
        if self.random_share is not None:
            in_range("random_share", self.random_share, "[0, 1]")
        if self.power is not None:
            in_range("power", self.power, "(0, inf)")
        if self.learning_rate is not None:
            in_range("learning_rate", self.learning_rate, "(0, inf)")
        for scale in self.prior_scales:
            in_range("prior_scales", scale, "(0, 1000]")
        in_range("grace", self.grace, "[0, inf)")
        self._check_judge(isinstance(oracles.parse_oracle(self.oracle), Judge))
        self.training(TABLE)

    def _check_judge(self, judged: bool) -> None:
        """Options of a judge, and of the person behind it."""
        for name in ("judge", "routing", "human_share", "human_labels"):
            if not judged and getattr(self, name) is not None:
                raise InputError(
                    f"{name} must be left open unless oracle is judge, got {getattr(self, name)!r} "
                    f"with {self.oracle}"
                )
        if not judged and self.person != "return":
            raise InputError(
                f"person must be left open unless oracle is judge, got {self.person!r} with "
                f"{self.oracle}"
            )
        try:
            person = oracles.parse_oracle(self.person)
        except InputError as error:
            raise InputError(str(error).replace("oracle", "person", 1)) from None
        if isinstance(person, Judge):
            raise InputError(f"person must be human or a simulated teacher, got {self.person!r}")
        if self.human_share is not None:
            in_range(
                "human_share", self.human_share, "(0, 1]" if self.judge == "ensemble" else "[0, 1]"
            )
        if self.human_labels is not None:
            whole("human_labels", self.human_labels, 0, self.labels)
            if self.judge == "ensemble" and self.human_labels < self.batch_size:
                raise InputError(
                    f"human_labels must be >= batch_size, {self.batch_size}, for judge ensemble, "
                    f"which people teach in the first round, got {self.human_labels}"
                )
            if self.human_share is not None:
                raise InputError(
                    f"human_share must be left open where human_labels is given, got "
                    f"{self.human_share}"
                )

    @property
    def reference_run(self) -> Path | None:
        """The run folder that the reference is of, if it is of one."""
        return None if self.reference in BUILT_IN else Path(self.reference)

    @property
    def teacher(self) -> oracles.Teacher | oracles.Human:
        """Who answers, or behind a judge what it leaves."""
        found = oracles.parse_oracle(self.oracle)
        if isinstance(found, Judge):
            found = oracles.parse_oracle(self.person)
        assert not isinstance(found, Judge)
        return found

    @property
    def at_console(self) -> bool:
        """Whether a person is asked while the campaign runs."""
        return isinstance(self.teacher, oracles.Human)

    def training(self, defaults: Defaults) -> Training:
        """How labels are learnt from, with the defaults of a kind of policy."""
        smoothing = self.label_smoothing
        return Training(
            loss="dpo" if self.loss == "reward-model" else self.loss,
            beta=self.dpo_beta,
            label_smoothing=defaults.label_smoothing if smoothing is None else smoothing,
            conservative=self.conservative,
            train=self.train or defaults.train,
            epochs=self.epochs,
            restart=self.restart,
            fresh_optimiser=self.fresh_optimiser,
            update_reference=self.update_reference,
            mixing=self.mixing,
            early_stop=self.early_stop,
        )

    def plan(self, defaults: Defaults) -> Plan:
        """How labels are bought, with the defaults of a kind of policy."""
        return Plan(
            labels=self.labels,
            batch_size=self.batch_size,
            schedule=self.schedule,
            pool=self.pool or defaults.pool,
            prompts=self.prompts,
            acquisition=self.acquisition,
            random_share=self.random_share,
            power=self.power,
            keep_identical=self.keep_identical,
            diversity=None if self.diversity == "none" else self.diversity,
            prior_scales=self.prior_scales,
            grace=self.grace,
        )
