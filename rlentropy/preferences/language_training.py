"""A round of DPO by TRL's own trainer, on rows of texts with the tokens that were sampled.

TRL makes tokens of texts anew, which may give others than those that were sampled, and ends every
completion, those that were cut too. So its collator is given the sampled ones, which rows carry
beside their texts: what is trained on is what was compared (preferences §8).
"""

from __future__ import annotations

import random
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rlentropy.errors import in_range, one_of, whole
from rlentropy.preferences.language_models import extra
from rlentropy.preferences.language_policy import LanguagePolicy
from rlentropy.types import Array, Count

Row = dict[str, Any]  # prompt, chosen, rejected: texts; and NAME_tokens: lists of their tokens
TEXTS = ("prompt", "chosen", "rejected")
LOGGED = ("loss", "rewards/margins", "rewards/accuracies")


@dataclass(frozen=True)
class LanguageTraining:
    """How labels train a language model."""

    beta: float = 0.2  # temperature of the implicit reward
    learning_rate: float = 1e-5  # of Adam, constant
    epochs: int = 10  # passes of a round
    minibatch: int = 16  # pairs of a gradient step
    train: str = "newest"  # on labels of the newest round, or on all
    restart: bool = False  # from the reference each round

    def __post_init__(self) -> None:
        in_range("dpo_beta", self.beta, "(0, inf)")
        in_range("learning_rate", self.learning_rate, "(0, inf)")
        whole("epochs", self.epochs, 1)
        whole("minibatch", self.minibatch, 1)
        one_of("train", self.train, ("newest", "all"))

    def chosen(self, y: Array, newest: int) -> Count:
        """Indices of the labels that a round trains on: ties have no chosen side, and are none."""
        first = len(y) - newest if self.train == "newest" else 0
        return np.flatnonzero((np.arange(len(y)) >= first) & (y != 0.5))


def dpo(
    policy: LanguagePolicy,
    reference: LanguagePolicy,
    rows: Sequence[Row],
    training: LanguageTraining,
    seed: int,
) -> list[dict[str, float]]:
    """Train a policy on rows by a new `trl.DPOTrainer`; what it logged, a dictionary a step.

    Args:
        reference: a frozen copy. Without one a policy that has moved would be its own reference.
        seed: of the order of the rows.
    """
    trl, transformers, datasets = (extra(name) for name in ("trl", "transformers", "datasets"))
    with tempfile.TemporaryDirectory() as folder, untouched_generators(), silenced(), loaders():
        trainer = trl.DPOTrainer(
            model=policy.model,
            ref_model=reference.model,
            args=options(trl, training, seed, folder, policy.model.device.type == "cpu"),
            train_dataset=datasets.Dataset.from_list(list(rows)),
            processing_class=policy.tokenizer,
            data_collator=Collator(policy.tokenizer.pad_token_id),
        )
        trainer.remove_callback(transformers.PrinterCallback)
        try:
            trainer.train()
        finally:
            for model in (policy.model, reference.model):
                vars(model).pop("forward", None)  # TRL's own, which would pile up round by round
                model.zero_grad(set_to_none=True)
                model.eval()
    return [log for log in trainer.state.log_history if "rewards/margins" in log]


def options(trl: Any, training: LanguageTraining, seed: int, folder: str, cpu: bool) -> Any:
    """TRL's options: Adam at a constant rate, single precision, nothing written or reported."""
    return trl.DPOConfig(
        output_dir=folder,
        beta=training.beta,
        loss_type=["sigmoid"],
        learning_rate=training.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        num_train_epochs=training.epochs,
        per_device_train_batch_size=training.minibatch,
        max_length=None,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=cpu,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
    )


class Collator:
    """TRL's batches of the tokens that were sampled, whatever texts were made to."""

    def __init__(self, pad: int) -> None:
        extra("trl")
        from importlib import import_module

        self.inner = import_module("trl.trainer.dpo_trainer").DataCollatorForPreference(pad)

    def __call__(self, rows: Sequence[Row]) -> Any:
        return self.inner(
            [{f"{name}_ids": row[f"{name}_tokens"] for name in TEXTS} for row in rows]
        )


def loaders() -> torch.device:
    """Where batches are made, from where the trainer takes them to the model."""
    return torch.device("cpu")


@contextmanager
def silenced() -> Iterator[None]:
    """Without what the libraries say of each other's future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


@contextmanager
def untouched_generators() -> Iterator[None]:
    """Give the global generators, which TRL seeds, back as they were."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def figures(logs: Sequence[dict[str, float]]) -> dict[str, float]:
    """TRL's figures of a round as tags: of its last step, and the loss of the first."""
    found = {f"train/{name}": float(logs[-1][name]) for name in LOGGED[1:]}
    return {
        "train/loss": float(logs[0]["loss"]),
        "train/final_loss": float(logs[-1]["loss"]),
        **found,
    }
