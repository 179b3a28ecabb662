"""A causal language model as a policy: completions of prompts, and their probabilities by token.

A completion has at most T tokens, its end-of-sequence token among them. log π(y|x) is the sum over
its tokens, whatever its length (preferences §1.1, §8). Batches are padded on the left of prompts
and on the right of completions, so that the tokens of completions stand in the same columns.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from rlentropy.errors import InputError, in_range
from rlentropy.files import writing
from rlentropy.neural import devices
from rlentropy.preferences.segments import alive
from rlentropy.types import Array, Count, Mask

ROWS = 32  # sequences side by side
LOGITS = 2**25  # numbers that a batch's logits may be


class Completions(NamedTuple):
    """What a model wrote after N prompts."""

    tokens: Count  # (N, T), 0 behind the end
    lengths: Count  # (N,) in 1..T
    ended: Mask  # (N,) whether the last token ends the sequence; else it was cut


class Reading(NamedTuple):
    """What a model makes of completions, by token; 0 behind their ends."""

    log_pi: Array  # (N, T)
    entropy: Array | None  # (N, T), nats, of the distribution that each token is of
    hidden: Array | None  # (N, width), mean of the last hidden states of the tokens


class LanguagePolicy:
    """A model with its tokenizer.

    Args:
        model: a causal one of transformers; it goes to `devices.current`.
        tokenizer: its own; its end-of-sequence token, and those of the model's settings, end
            completions.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model.to(devices.current()), tokenizer
        ends = getattr(model.generation_config, "eos_token_id", None)
        more = ends if isinstance(ends, list) else [] if ends is None else [ends]
        self.ends = torch.tensor(sorted({tokenizer.eos_token_id, *more}), device=model.device)
        accepted = inspect.signature(type(model).forward).parameters
        self._positions = "position_ids" in accepted
        self._cache = "cache" if "cache" in accepted else "past_key_values"  # by its version

    @property
    def width(self) -> int:
        """Of hidden states."""
        return int(self.model.config.get_text_config().hidden_size)

    def encode(self, text: str) -> list[int]:
        """A prompt's tokens, as TRL's trainer makes them, too."""
        ids: list[int] = self.tokenizer(text)["input_ids"]
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of a completion, without tokens that are no text."""
        text: str = self.tokenizer.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def check_room(self, prompts: Sequence[Sequence[int]], T: int) -> None:
        """Refuse prompts that leave no room for completions.

        Raises:
            InputError: one is empty, or too long for the model.
        """
        most = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        longest, shortest = max(map(len, prompts)), min(map(len, prompts))
        if not shortest:
            raise InputError("prompts must have a token each, got one without")
        if most is not None and longest + T > most:
            raise InputError(
                f"max_new_tokens must leave room for prompts of {longest} tokens in the {most} "
                f"that the model can read, got {T}"
            )

    @torch.no_grad()
    def complete(
        self, prompts: Sequence[Sequence[int]], uniforms: Array, temperature: float
    ) -> Completions:
        """Sample a completion of each prompt.

        Args:
            prompts: tokens of N prompts.
            uniforms: (N, T), in [0, 1): the token of a step is the quantile of its distribution.
            temperature: > 0, of the logits.
        """
        in_range("temperature", temperature, "(0, inf)")
        N, T = uniforms.shape
        found = Completions(np.zeros((N, T), np.int64), np.zeros(N, np.int64), np.zeros(N, bool))
        for rows in self._blocks(N, 1):
            ids, mask = self._padded(prompts[rows])
            part = Completions(found.tokens[rows], found.lengths[rows], found.ended[rows])
            self._write(ids, mask, uniforms[rows], temperature, part)
        return found

    def _write(
        self, ids: Any, mask: Any, uniforms: Array, temperature: float, found: Completions
    ) -> None:
        """Complete one batch into these rows of the completions."""
        cache, u = None, devices.put(uniforms, ids.device)
        live = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
        for t in range(u.shape[1]):
            output = self.model(
                input_ids=ids,
                attention_mask=mask,
                use_cache=True,
                logits_to_keep=1,
                **{self._cache: cache},
                **self._places(mask, ids.shape[1]),
            )
            cache = output.past_key_values
            logits = output.logits[:, -1].to(u.dtype)
            p = torch.softmax(logits / temperature, dim=-1).cumsum(-1)
            drawn = torch.searchsorted(p, u[:, t : t + 1] * p[:, -1:], right=True)
            ids = drawn.clamp(max=p.shape[1] - 1)
            mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
            ending, now = torch.isin(ids[:, 0], self.ends), live.cpu().numpy()
            found.tokens[now, t] = ids[:, 0].cpu().numpy()[now]
            found.lengths[now] = t + 1
            found.ended[now] = ending.cpu().numpy()[now]
            live &= ~ending
            if not live.any():
                return

    @torch.no_grad()
    def read(
        self,
        prompts: Sequence[Sequence[int]],
        tokens: Count,
        lengths: Count,
        *,
        entropy: bool = False,
        hidden: bool = False,
    ) -> Reading:
        """Log-probabilities of completions at temperature 1, and what else is asked for."""
        mask, parts = alive(lengths, tokens.shape[1]), []
        for rows in self._blocks(len(tokens), tokens.shape[1]):
            log_p, states = self._log_p(prompts[rows], tokens[rows], lengths[rows], hidden)
            index = torch.as_tensor(tokens[rows], device=log_p.device)[:, :, None]
            said = log_p.gather(-1, index)[:, :, 0]
            doubt = torch.special.entr(log_p.exp()).sum(-1) if entropy else None
            parts.append(
                [None if x is None else x.cpu().double().numpy() for x in (said, doubt, states)]
            )
        whole = [None if x[0] is None else np.concatenate(x) for x in zip(*parts, strict=True)]
        by_token = [None if x is None else np.where(mask, x, 0.0) for x in whole[:2]]
        assert by_token[0] is not None
        return Reading(by_token[0], by_token[1], whole[2])

    def _log_p(
        self, prompts: Sequence[Sequence[int]], tokens: Count, lengths: Count, hidden: bool = False
    ) -> tuple[Any, Any]:
        """log π of all tokens at each place of completions, (B, T, V), and their hidden states."""
        ids, before = self._padded(prompts)
        T, kept = tokens.shape[1], torch.as_tensor(alive(lengths, tokens.shape[1]))
        kept = kept.to(ids.device)
        after = torch.as_tensor(tokens, device=ids.device) * kept
        mask = torch.cat([before, kept.long()], dim=1)
        output = self.model(
            input_ids=torch.cat([ids, after], dim=1), attention_mask=mask, use_cache=False,
            logits_to_keep=T + 1, output_hidden_states=hidden, **self._places(mask, mask.shape[1]),
        )  # fmt: skip
        log_p = torch.log_softmax(output.logits[:, -T - 1 : -1].float(), dim=-1)
        if not hidden:
            return log_p, None
        states = output.hidden_states[-1][:, -T:] * kept[:, :, None]
        return log_p, states.sum(1) / kept.sum(1, keepdim=True)

    @torch.no_grad()
    def divergence(
        self, other: LanguagePolicy, prompts: Sequence[Sequence[int]], written: Completions
    ) -> Array:
        """Σ_t KL(π(·|s_t) ‖ other(·|s_t)) along completions of this policy, (N,)."""
        total = np.zeros(len(written.tokens))
        mask = alive(written.lengths, written.tokens.shape[1])
        for rows in self._blocks(*written.tokens.shape):
            given = prompts[rows], written.tokens[rows], written.lengths[rows]
            log_p, log_q = self._log_p(*given)[0], other._log_p(*given)[0]
            kl = (log_p.exp() * (log_p - log_q)).sum(-1).cpu().double().numpy()
            total[rows] = np.where(mask[rows], kl, 0.0).sum(1)
        return total

    def _blocks(self, N: int, T: int) -> Iterator[slice]:
        """Rows that fit the memory."""
        vocabulary = int(self.model.config.get_text_config().vocab_size)
        rows = max(1, min(ROWS, LOGITS // (vocabulary * (T + 1))))
        return (slice(k, min(k + rows, N)) for k in range(0, N, rows))

    def _padded(self, prompts: Sequence[Sequence[int]]) -> tuple[Any, Any]:
        """Prompts with padding on their left, (B, P), and where they are."""
        most = max(map(len, prompts))
        pad = int(self.tokenizer.pad_token_id)
        ids = [[pad] * (most - len(p)) + list(p) for p in prompts]
        mask = [[0] * (most - len(p)) + [1] * len(p) for p in prompts]
        device = self.model.device
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)

    def _places(self, mask: Any, columns: int) -> dict[str, Any]:
        """Positions of the last columns, counted from each sequence's first token."""
        if not self._positions:
            return {}
        return {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)[:, -columns:]}

    # ---------------------------------------------------------------- weights

    def weights(self) -> dict[str, Any]:
        """Those that are trained, by name; copies."""
        return {
            name: weight.detach().cpu().numpy().copy()
            for name, weight in self.model.named_parameters()
            if weight.requires_grad
        }

    def load_weights(self, weights: dict[str, Any]) -> None:
        """Set those that are trained."""
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                if weight.requires_grad:
                    weight.copy_(torch.as_tensor(weights[name]))

    def digest(self) -> str:
        """A hash of those that are trained."""
        found = hashlib.sha256()
        for weight in self.model.parameters():
            if weight.requires_grad:
                found.update(np.ascontiguousarray(weight.detach().cpu().numpy()).data)
        return found.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write model and tokenizer, as `from_pretrained` reads them."""
        with writing(folder):
            self.model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
