"""Active preference learning of language models: buy the labels that teach most, by TRL's DPO.

Rounds of candidates, choice, questions and DPO (Muldrew et al., "Active Preference Learning for
Large Language Models", ICML 2024, arXiv 2402.08114) on a causal model of `transformers`. The loop
and its acquisition rules are those of `rlentropy.preferences.active_preference`; a round is
trained by a new `trl.DPOTrainer` (preferences §8).

Differences from the paper's code: prompts come again only when all have come, identical pairs are
dropped, every candidate is scored, the teacher is a number of the text or a person, and the online
form (newest labels, no restart) is the default.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rlentropy import calls, preferences
from rlentropy.errors import InputError, in_range, one_of, whole
from rlentropy.log import Log
from rlentropy.preferences import acquisition, language_scores, oracles
from rlentropy.preferences.campaign import Campaign, Plan
from rlentropy.preferences.console import Front
from rlentropy.preferences.export import prompt_and_completion
from rlentropy.preferences.judges import Judge
from rlentropy.preferences.language_judge import LanguageJudge
from rlentropy.preferences.language_models import extra, from_hub, load, train_last
from rlentropy.preferences.language_prompts import read_prompts
from rlentropy.preferences.language_stems import STEMS
from rlentropy.preferences.questions import JUDGE
from rlentropy.preferences.report import Reporter
from rlentropy.preferences.routing import Panel, by_returns
from rlentropy.preferences.segments import Segments, joined
from rlentropy.preferences.store import Store
from rlentropy.preferences.teaching import SimulatedTeacher
from rlentropy.types import Result

__all__ = ["Config", "run"]

Generator = np.random.Generator

QUESTION = """Two texts that begin alike.

Text A:
{left}

Text B:
{right}

The better text is"""


@dataclass(frozen=True)
class Config:
    """Teaches a language model what is wanted, by labels of pairs of its completions.

    The campaign of active-preference, each round trained by TRL's DPO. Use it with --oracle human
    to align a small model by hand, or with a simulated teacher to compare rules of acquisition.
    Needs pip install 'rlentropy[lm]'.

    Paper: Muldrew et al., "Active Preference Learning for Large Language Models", ICML 2024.

    Example::

        rlentropy language-preference --model random:2,32 --labels 32
    """

    # folder, .gguf file, package:NAME that ships one, random:LAYERS,WIDTH for an untrained one of
    # letters, or hub:ID, the only one for which a network is used
    model: str = "random:2,32"
    prompts: str = ""  # file of a prompt a line, or of JSON objects with one; default: stems
    evaluation_prompts: int = 32  # the last ones of the file, which are never asked about
    labels: int = 64  # budget, in labels
    batch_size: int = 16  # labels a round
    schedule: tuple[int, ...] = ()  # labels at which rounds end, before those of --batch-size

    # what is asked:

    pool: int = 4  # candidate pairs per label
    acquisition: str = "certainty"  # rule that chooses what is asked
    random_share: float | None = None  # of each batch, in [0, 1]; default: the rule's own
    power: float | None = None  # of scores in soft draws, > 0; default: the rule's own
    # what keeps a batch from asking the same twice
    diversity: Literal["none", "k-center", "dpp", "vendi"] = "none"
    prompt_pool: int = 4  # prompts scored for each that an entropy filter keeps
    entropy: Literal["monte-carlo", "rao-blackwell"] = "monte-carlo"  # how prompts' is estimated
    entropy_samples: int = 8  # completions behind that estimate, at temperature 1
    reward_features: int = 32  # of the belief about rewards, beside length and log π_ref

    # who answers:

    # what a simulated teacher judges, and completions are scored by: length:WORDS, lexicon (words
    # that are liked less those that are loathed), share:LETTERS of the characters, or none
    reward: str = "lexicon"
    # return, bradley-terry:τ, judge or human; τ in units of --reward, or in standard deviations of
    # the reference's (1std); options follow (,mistake=0.1)
    oracle: str = "bradley-terry:0.5std"
    # of --oracle judge: a model that reads both texts, named as by --model; default: simulated
    judge: str = ""
    grace: float = 3.0  # seconds in which a person's last answer of a round can be taken back

    # completions:

    max_new_tokens: int = 16  # of a completion, its end-of-sequence token among them
    sampling_temperature: float = 0.7  # of candidates, > 0
    evaluation_temperature: float = 0.25  # of the completions that are scored, > 0
    evaluation_pairs: int = 32  # of the reference, by which margins are judged

    # learning:

    dpo_beta: float = 0.2  # temperature of the implicit reward, > 0
    learning_rate: float = 1e-5  # of Adam, constant
    epochs: int = 10  # passes over the labels of a round
    minibatch: int = 16  # pairs of a gradient step
    train: Literal["newest", "all"] = "newest"  # on labels of the newest round, or on all
    restart: bool = False  # learn from the reference anew each round
    trainable_layers: int | None = None  # the last so many blocks, all else frozen; default: all

    def __post_init__(self) -> None:
        for name in ("labels", "batch_size", "pool", "prompt_pool", "evaluation_pairs"):
            whole(name, getattr(self, name), 1)
        whole("evaluation_prompts", self.evaluation_prompts, 2)
        whole("entropy_samples", self.entropy_samples, 1)
        whole("reward_features", self.reward_features, 1, 4096)
        whole("max_new_tokens", self.max_new_tokens, 1, 100_000)
        if self.trainable_layers is not None:
            whole("trainable_layers", self.trainable_layers, 1)
        if list(self.schedule) != sorted(set(self.schedule)) or min(self.schedule, default=1) < 1:
            raise InputError(f"schedule must be rising label counts >= 1, got {self.schedule}")
        one_of("acquisition", self.acquisition, acquisition.RULES)
        for name in ("sampling_temperature", "evaluation_temperature"):
            in_range(name, getattr(self, name), "(0, inf)")
        if self.random_share is not None:
            in_range("random_share", self.random_share, "[0, 1]")
        if self.power is not None:
            in_range("power", self.power, "(0, inf)")
        in_range("dpo_beta", self.dpo_beta, "(0, inf)")
        in_range("learning_rate", self.learning_rate, "(0, inf)")
        whole("epochs", self.epochs, 1)
        whole("minibatch", self.minibatch, 1)
        spec = oracles.parse_oracle(self.oracle)
        if getattr(spec, "judged", "return") != "return":
            raise InputError(f"oracle must judge --reward alone, got {self.oracle!r}")
        if self.judge and not isinstance(spec, Judge):
            raise InputError(f"judge must come with oracle judge, got {self.oracle!r}")
        in_range("grace", self.grace, "[0, inf)")
        score = language_scores.parse_score(self.reward)
        if score is None and not isinstance(spec, oracles.Human):
            raise InputError(f"reward must not be none unless oracle is human, got {self.oracle!r}")

    loss = "dpo"  # for the report

    @property
    def at_console(self) -> bool:
        """Whether a person is asked while the campaign runs."""
        return isinstance(oracles.parse_oracle(self.oracle), oracles.Human)

    @property
    def plan(self) -> Plan:
        """How labels are bought."""
        return Plan(
            labels=self.labels,
            batch_size=self.batch_size,
            schedule=self.schedule,
            pool=self.pool,
            prompts=self.prompt_pool,
            acquisition=self.acquisition,
            random_share=self.random_share,
            power=self.power,
            diversity=None if self.diversity == "none" else self.diversity,
            grace=self.grace,
        )


@calls.alone(Config)
def run(config: Config, rng: Generator, log: Log) -> Result:
    """Buy labels and align a model; it goes into the folder `model` of the run.

    Raises:
        InputError: the extra is not installed, or model, prompts or oracle don't suit the options.
    """
    model_rng, campaign_rng, evaluation_rng = rng.spawn(3)
    texts = read_prompts(Path(config.prompts)) if config.prompts else STEMS
    seeds = evaluation_rng.integers(2**31, size=3).tolist()
    subject = subject_of(config, texts, model_rng, seeds[2])
    held_out = subject.held_out(config.evaluation_pairs, np.random.default_rng(seeds[0]))
    both, spec = joined([held_out.a, held_out.b]), oracles.parse_oracle(config.oracle)
    teacher = router = None
    if isinstance(spec, Judge):
        router = by_returns(spec, both, seeds[1], config.oracle)
        if config.judge:
            router = replace(router, **reader_of(config.judge, subject, seeds[1]))
        spec = oracles.Teacher()
    if not isinstance(spec, oracles.Human):
        teacher = SimulatedTeacher(spec, both, None, seeds[1])
    folder = None if log.directory is None else log.directory / "campaign"
    store = Store(folder, about(config, texts), describe=subject.describe)
    front = Front(lambda: log.interrupted, config.grace) if teacher is None else None
    campaign = Campaign(subject, config.plan, teacher, store, campaign_rng, front, router)
    panel = Panel(router, teacher) if router and teacher and not config.judge else teacher
    reporter = Reporter(campaign, subject, held_out, panel)
    try:
        scores = reporter.spend(log, config.labels)
        if log.directory is not None:
            subject.policy.save(log.directory / "model")
        return reporter.result(scores, config)
    finally:
        store.close()


def subject_of(config: Config, texts: Sequence[str], rng: Generator, seed: int) -> Any:
    """The model that is aligned, and what is asked of it.

    Raises:
        InputError: there are too few prompts, or the model is none.
    """
    held = config.evaluation_prompts
    if len(texts) <= held:
        raise InputError(
            f"prompts must be more than the {held} of evaluation_prompts, got {len(texts)}"
        )
    extra("trl", online=any(map(from_hub, (config.model, config.judge))))
    model, tokenizer = load(config.model, rng)
    train_last(model, config.trainable_layers)
    subjects, training = preferences.language_subject, preferences.language_training
    task = subjects.LanguageTask(
        tuple(texts[:-held]),
        tuple(texts[-held:]),
        language_scores.parse_score(config.reward),
        length=config.max_new_tokens,
        temperature=config.sampling_temperature,
        evaluation_temperature=config.evaluation_temperature,
        entropy=config.entropy,
        samples=config.entropy_samples,
        features=config.reward_features,
    )
    how = training.LanguageTraining(
        beta=config.dpo_beta,
        learning_rate=config.learning_rate,
        epochs=config.epochs,
        minibatch=config.minibatch,
        train=config.train,
        restart=config.restart,
    )
    policy = preferences.language_policy.LanguagePolicy(model, tokenizer)
    return subjects.LanguageSubject(policy, task, how, seed)


def reader_of(name: str, subject: Any, seed: int) -> dict[str, Any]:
    """Fields of a router whose judge is a model that reads texts."""

    def text(segment: Segments) -> str:
        return "".join(prompt_and_completion(subject.describe(segment)))

    loaded = load(name, np.random.default_rng(seed))
    judge = LanguageJudge(loaded, text, QUESTION)
    return {"judge": judge, "name": f"{JUDGE}lm:{name}", "rule": "margin"}


def about(config: Config, texts: Sequence[str]) -> dict[str, str]:
    """What is the same for all questions of a campaign, which its store holds."""
    return {
        "env_id": "",
        "model": config.model,
        "prompts": hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16],
        "transformers": version("transformers"),
        "trl": version("trl"),
        "acquisition": config.acquisition,
        "oracle": config.oracle,
        "reward": config.reward,
    }
