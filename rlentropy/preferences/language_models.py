"""Causal language models, from where they lie: nothing is downloaded unless a hub is named.

A model is named by one text (`load`): a folder, a .gguf file, an installed package that ships
weights, a hub's id, or a small one made on the spot. All compute in single precision.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlentropy.errors import InputError, whole

CURE = "pip install 'rlentropy[lm]'"
OFFLINE = {  # read once, when the libraries load
    **dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"), "1"),
    **dict.fromkeys(("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"), "1"),
}
QUIET = {
    **dict.fromkeys(("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"), "1"),
    **{"TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"},
}
LETTERS = "abcdefghijklmnopqrstuvwxyz .,'!?"  # what a model made on the spot can read and write
END, UNKNOWN = "<end>", "<unknown>"
POSITIONS = 512  # tokens that a model made on the spot can attend to
KINDS = "a folder, a .gguf file, package:NAME, hub:ID or random:LAYERS,WIDTH"


class Loaded(NamedTuple):
    """A model and what turns texts into its tokens."""

    model: Any  # a transformers.PreTrainedModel, float32, in evaluation mode
    tokenizer: Any  # a transformers.PreTrainedTokenizerBase


def extra(name: str, online: bool = False) -> Any:
    """A package of the extra `lm`, kept from drawing bars and, unless online, from networks.

    What it is kept from it learns when it is first imported.

    Raises:
        InputError: it is not installed.
    """
    with settings(QUIET if online else OFFLINE | QUIET):
        try:
            return import_module(name)
        except ImportError as error:
            missing = (error.name or name).partition(".")[0]
            raise InputError(
                f"language models must have {missing}, which is not installed: {CURE}"
            ) from None


@contextmanager
def settings(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the time of a block, but for those that are set."""
    new = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


def load(name: str, rng: np.random.Generator) -> Loaded:
    """The model of a name.

        FOLDER                  what `save_pretrained` wrote
        FILE.gguf               weights and tokenizer in one file, made to single precision
        package:NAME            such a file or folder in an installed package, which isn't run
        hub:ID                  of the Hugging Face hub, the one name that may use a network
        random:LAYERS,WIDTH     untrained, of letters; rng draws its weights

    Raises:
        InputError: there is none, or it can't be read.
    """
    kind, colon, rest = name.partition(":")
    if kind == "random" and colon:
        return untrained(*sizes(rest), rng)
    if kind == "hub" and colon:
        return _read(rest, {}, online=True)
    path = package_path(rest) if kind == "package" and colon else Path(name)
    if path.is_file() and path.suffix == ".gguf":
        extra("gguf")
        extra("accelerate")
        return _read(str(path.parent), {"gguf_file": path.name, "local_files_only": True})
    if not (path / "config.json").is_file():
        raise InputError(f"model must be {KINDS}, got {name!r}")
    return _read(str(path), {"local_files_only": True})


def from_hub(name: str) -> bool:
    """Whether a name may use a network."""
    return name.startswith("hub:")


def sizes(text: str) -> tuple[int, int]:
    """Layers and width of a model made on the spot.

    Raises:
        InputError: they are none.
    """
    try:
        layers, width = (int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"model random must have LAYERS,WIDTH, got {text!r}") from None
    whole("layers of model", layers, 1, 64)
    whole("width of model", width, 4, 4096)
    if width % 4:
        raise InputError(f"width of model must be a multiple of 4, got {width}")
    return layers, width


def package_path(name: str) -> Path:
    """The .gguf file, or else the folder with a config.json, of an installed package.

    Raises:
        InputError: there is no such package, or it ships no weights.
    """
    try:
        spec = find_spec(name) if name.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise InputError(f"model must be of an installed package, got no package {name!r}")
    for folder in map(Path, spec.submodule_search_locations or ()):
        files = sorted(folder.rglob("*.gguf"))
        folders = [path.parent for path in sorted(folder.rglob("config.json"))]
        if files or folders:
            return (files + folders)[0]
    raise InputError(f"model must be of a package that ships weights, got none in {name}")


def _read(where: str, options: Mapping[str, Any], online: bool = False) -> Loaded:
    """A model as transformers reads it."""
    transformers = extra("transformers", online)
    import torch

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(where, **options)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            where, dtype=torch.float32, **options
        )
    except Exception as error:  # transformers raises a dozen kinds
        reason = str(error).strip().partition("\n")[0] or repr(error)
        raise InputError(
            f"model must be one that transformers reads, got {where}: {reason}"
        ) from None
    if tokenizer.eos_token_id is None:
        raise InputError(f"model must have an end-of-sequence token, got none in {where}")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if "gguf_file" in options:
        _forget_quantisation(model)
    return Loaded(model.eval(), tokenizer)


def _forget_quantisation(model: Any) -> None:
    """Let weights that were made to single precision be trained and saved as such."""
    for name in ("is_quantized", "hf_quantizer", "quantization_method"):
        vars(model).pop(name, None)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def untrained(layers: int, width: int, rng: np.random.Generator) -> Loaded:
    """A transformer of letters with random weights: what knows nothing, and costs nothing."""
    transformers = extra("transformers")
    import torch

    tokenizer = letters()
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        initializer_range=0.5 / np.sqrt(width),
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**63)))
        model = transformers.LlamaForCausalLM(config)
    return Loaded(model.float().eval(), tokenizer)


def letters() -> Any:
    """A tokenizer with a token a letter, which reads capitals as small ones."""
    transformers, tokenizers = extra("transformers"), extra("tokenizers")
    words = {token: i for i, token in enumerate([END, UNKNOWN, *LETTERS])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, UNKNOWN))
    made.normalizer = tokenizers.normalizers.Lowercase()
    pieces = tokenizers.Regex(r"[\s\S]")
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split(pieces, "isolated")
    made.decoder = tokenizers.decoders.Fuse()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=END, pad_token=END, unk_token=UNKNOWN
    )


def train_last(model: Any, blocks: int | None) -> None:
    """Freeze all weights but those of the last blocks; None: train all.

    Raises:
        InputError: the model has fewer blocks, or they aren't found.
    """
    if blocks is None:
        return
    import torch

    depth = int(model.config.get_text_config().num_hidden_layers)
    whole("trainable_layers", blocks, 1, depth)
    stacks = [
        part
        for part in model.modules()
        if isinstance(part, torch.nn.ModuleList) and len(part) == depth
    ]
    if not stacks:
        raise InputError(
            f"trainable_layers must be left out for a model without a list of {depth} blocks, "
            f"got {blocks} with {type(model).__name__}"
        )
    model.requires_grad_(False)
    stacks[0][-blocks:].requires_grad_(True)
