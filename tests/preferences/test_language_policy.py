"""Completions and their probabilities, against one sequence at a time without padding or cache."""

import builtins
import json
import os
import sys

import numpy as np
import pytest

from rlentropy.errors import InputError
from rlentropy.preferences import language_models

transformers = pytest.importorskip("transformers", reason="needs the extra lm")
torch = pytest.importorskip("torch")

from rlentropy.preferences import language_policy  # noqa: E402

PROMPTS = ("the sea", "a", "under the old bridge", "when")
T = 6


@pytest.fixture(scope="module")
def policy():
    return language_policy.LanguagePolicy(*language_models.load("random:2,16", random()))


def random(seed=3):
    return np.random.default_rng(seed)


def ended_early(policy):
    """The same, likelier to end: with the end's embedding, which is its output too, made larger."""
    model, tokenizer = language_models.load("random:2,16", random())
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer.eos_token_id] *= 6.0
    return language_policy.LanguagePolicy(model, tokenizer)


def next_law(policy, ids):
    """Law of the next token in double precision, from its sequence alone, and its last state."""
    with torch.no_grad():
        output = policy.model(torch.tensor([ids]), output_hidden_states=True, use_cache=False)
    logits = output.logits[0, -1].double().numpy()
    p = np.exp(logits - logits.max())
    return p / p.sum(), output.hidden_states[-1][0, -1].double().numpy(), logits


def test_a_completion_is_drawn_token_by_token(policy):
    for one, temperature in ((policy, 0.7), (ended_early(policy), 1.0)):
        prompts = [one.encode(text) for text in PROMPTS] * 10
        uniforms = random(1).random((len(prompts), T))
        found = one.complete(prompts, uniforms, temperature)
        ends = 0
        for ids, u, tokens, length, ended in zip(prompts, uniforms, *found, strict=True):
            written = []
            for x in u:
                logits = next_law(one, ids + written)[2] / temperature
                p = np.exp(logits - logits.max())
                quantile = np.searchsorted(np.cumsum(p / p.sum()), x, side="right")
                written.append(int(quantile))
                if written[-1] == one.tokenizer.eos_token_id:
                    break
            assert tokens[:length].tolist() == written
            assert ended == (written[-1] == one.tokenizer.eos_token_id)
            assert not tokens[length:].any()
            ends += ended
        assert (ends > 5) == (one is not policy)
        assert sorted(set(found.lengths.tolist()))[-1] == T


def test_probabilities_are_of_each_token_given_all_before(policy):
    rng = random(2)
    prompts = [policy.encode(text) for text in PROMPTS]
    tokens = rng.integers(34, size=(4, T))
    lengths = np.array([T, 1, 3, 4])
    read = policy.read(prompts, tokens, lengths, entropy=True, hidden=True)
    for i, ids in enumerate(prompts):
        states = []
        for t in range(T):
            if t >= lengths[i]:
                assert read.log_pi[i, t] == read.entropy[i, t] == 0.0
                continue
            so_far = ids + tokens[i, :t].tolist()
            p, _, _ = next_law(policy, so_far)
            assert read.log_pi[i, t] == pytest.approx(np.log(p[tokens[i, t]]), abs=1e-5)
            assert read.entropy[i, t] == pytest.approx(-(p * np.log(p)).sum(), abs=1e-5)
            states.append(next_law(policy, [*so_far, int(tokens[i, t])])[1])
        np.testing.assert_allclose(read.hidden[i], np.mean(states, axis=0), atol=1e-5)
    plain = policy.read(prompts, tokens, lengths)
    assert plain.entropy is None
    assert plain.hidden is None
    np.testing.assert_allclose(plain.log_pi, read.log_pi, atol=1e-6)


def test_divergence_is_the_sum_over_places(policy):
    other = language_policy.LanguagePolicy(*language_models.load("random:1,8", random(9)))
    prompts = [policy.encode(text) for text in PROMPTS]
    tokens, lengths = random(4).integers(34, size=(4, T)), np.array([2, T, 1, 5])
    written = language_policy.Completions(tokens, lengths, np.zeros(4, bool))
    found = policy.divergence(other, prompts, written)
    for i, ids in enumerate(prompts):
        total = 0.0
        for t in range(lengths[i]):
            so_far = ids + tokens[i, :t].tolist()
            p, q = next_law(policy, so_far)[0], next_law(other, so_far)[0]
            total += (p * np.log(p / q)).sum()
        assert found[i] == pytest.approx(total, abs=1e-5)
    np.testing.assert_allclose(policy.divergence(policy, prompts, written), 0.0, atol=1e-12)


def test_batches_change_nothing(policy, monkeypatch):
    prompts = [policy.encode(text) for text in PROMPTS]
    uniforms = random(5).random((4, T))
    whole = policy.complete(prompts, uniforms, 1.0)
    read = policy.read(prompts, whole.tokens, whole.lengths, entropy=True)
    monkeypatch.setattr(language_policy, "ROWS", 3)
    again = policy.complete(prompts, uniforms, 1.0)
    for one, two in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one, two)
    parts = policy.read(prompts, again.tokens, again.lengths, entropy=True)
    np.testing.assert_allclose(parts.log_pi, read.log_pi, atol=1e-5)
    np.testing.assert_allclose(parts.entropy, read.entropy, atol=1e-5)


def test_letters_come_back_as_they_were(policy):
    ids = policy.encode("The Sea, isn't it?")
    assert policy.decode(ids) == "the sea, isn't it?"
    assert len(ids) == 18
    assert policy.decode([*ids[:3], policy.tokenizer.eos_token_id]) == "the"


def test_weights_come_back(policy):
    model, tokenizer = language_models.load("random:3,8", random())
    language_models.train_last(model, 1)
    one = language_policy.LanguagePolicy(model, tokenizer)
    assert {name.split(".")[2] for name in one.weights()} == {"2"}
    before, digest = one.weights(), one.digest()
    one.load_weights({name: w + 1.0 for name, w in before.items()})
    assert one.digest() != digest
    for name, weight in one.weights().items():
        np.testing.assert_array_equal(weight, before[name] + 1.0)
    one.load_weights(before)
    assert one.digest() == digest


def test_prompts_must_leave_room(policy):
    policy.check_room([[1] * 500, [2]], 12)
    with pytest.raises(InputError, match=r"leave room for prompts of 500 tokens in the 512 .* 13"):
        policy.check_room([[1] * 500], 13)
    with pytest.raises(InputError, match="prompts must have a token each, got one without"):
        policy.check_room([[1], []], 3)
    with pytest.raises(InputError, match="temperature must be > 0"):
        policy.complete([[1]], np.zeros((1, 1)), 0.0)


# ---------------------------------------------------------------- where models come from


def test_models_are_read_from_folders_and_packages(policy, tmp_path, monkeypatch):
    package = tmp_path / "shipped_weights"
    policy.save(package / "weights" / "small")
    (package / "__init__.py").write_text("raise SystemExit('it is not to be run')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in (str(package / "weights" / "small"), "package:shipped_weights"):
        read = language_policy.LanguagePolicy(*language_models.load(name, random()))
        assert read.digest() == policy.digest()
        assert read.encode("the sea") == policy.encode("the sea")
        assert not read.model.training
    assert "shipped_weights" not in sys.modules


def write_gguf(path, rng):
    """A model of one layer, quantised, whose tokens are bytes."""
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(str(path), "llama")
    names = {"context_length": 64, "embedding_length": 64, "block_count": 1, "head_count": 2}
    names |= {"feed_forward_length": 64, "layer_norm_rms_eps": 1e-5, "rope_freq_base": 1e4}
    for name, value in names.items():
        getattr(writer, f"add_{name}")(value)
    letters = [chr(c) for c in range(33, 127)] + [chr(c) for c in range(256, 290)] + ["ab", "<end>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(letters)
    writer.add_token_types([1] * (len(letters) - 1) + [3])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(len(letters) - 1)
    kind = gguf.GGMLQuantizationType.Q4_1
    block = "blk.0."
    tensors = dict.fromkeys(("ffn_up", "ffn_down", "ffn_gate"), (64, 64))
    tensors |= {f"attn_{name}": (64, 64) for name in ("q", "k", "v", "output")}
    tensors = {f"{block}{name}.weight": shape for name, shape in tensors.items()}
    tensors["token_embd.weight"] = (len(letters), 64)
    for name, shape in tensors.items():
        array = gguf.quants.quantize(rng.standard_normal(shape).astype(np.float32), kind)
        writer.add_tensor(name, array, raw_dtype=kind)
    for name in (f"{block}attn_norm", f"{block}ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(64, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_quantised_weights_can_be_trained_and_saved(tmp_path):
    """Transformers marks them as quantised, and Trainer refuses such, after they are made whole."""
    write_gguf(tmp_path / "tiny.gguf", random())
    loaded = language_models.load(str(tmp_path / "tiny.gguf"), random())
    assert not getattr(loaded.model, "is_quantized", False)
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.float32}
    policy = language_policy.LanguagePolicy(*loaded)
    policy.save(tmp_path / "saved")
    again = language_policy.LanguagePolicy(*language_models.load(str(tmp_path / "saved"), random()))
    assert again.digest() == policy.digest()
    assert again.encode("sea") == policy.encode("sea")


def test_a_gguf_file_is_read_from_its_folder(tmp_path, monkeypatch):
    asked = []

    def read(*given, online=False):
        assert online == (given[0] == "some/one")
        asked.append(given)

    monkeypatch.setattr(language_models, "_read", read)
    (tmp_path / "w.gguf").touch()
    language_models.load(str(tmp_path / "w.gguf"), random())
    assert asked == [(str(tmp_path), {"gguf_file": "w.gguf", "local_files_only": True})]
    package = tmp_path / "with_gguf"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "x.gguf").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    language_models.load("package:with_gguf", random())
    assert asked[1] == (str(package), {"gguf_file": "x.gguf", "local_files_only": True})
    language_models.load("hub:some/one", random())  # the only one that may use a network
    assert asked[2] == ("some/one", {})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "model must be a folder, a .gguf file, package:NAME, .*, got 'nowhere'"),
        ("", "model must be a folder"),
        ("random", "model must be a folder"),
        ("random:2", r"model random must have LAYERS,WIDTH, got '2'"),
        ("random:x,y", "model random must have LAYERS,WIDTH"),
        ("random:0,8", "layers of model must be >= 1, got 0"),
        ("random:1,9999", "width of model must be <= 4096"),
        ("random:1,6", "width of model must be a multiple of 4, got 6"),
        ("package:no_such_package", "of an installed package, got no package 'no_such_package'"),
        ("package:../x", "of an installed package, got no package"),
        ("package:json", "of a package that ships weights, got none in json"),
    ],
)
def test_no_such_model(name, message):
    with pytest.raises(InputError, match=message):
        language_models.load(name, random())


def test_a_folder_that_is_no_model(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="model must be one that transformers reads, got"):
        language_models.load(str(tmp_path), random())
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError, match="model must be one that transformers reads, got"):
        language_models.load(str(tmp_path / "bad.gguf"), random())


def test_a_model_must_have_an_end(policy, tmp_path):
    policy.save(tmp_path)
    settings = tmp_path / "tokenizer_config.json"
    fields = json.loads(settings.read_text())
    settings.write_text(json.dumps({k: v for k, v in fields.items() if k != "eos_token"}))
    (tmp_path / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(InputError, match="model must have an end-of-sequence token, got none in"):
        language_models.load(str(tmp_path), random())


def test_what_is_frozen():
    model, _ = language_models.load("random:3,8", random())
    language_models.train_last(model, None)
    assert all(weight.requires_grad for weight in model.parameters())
    with pytest.raises(InputError, match="trainable_layers must be <= 3, got 4"):
        language_models.train_last(model, 4)
    model.config.num_hidden_layers = 7
    with pytest.raises(InputError, match="left out for a model without a list of 7 blocks"):
        language_models.train_last(model, 2)


def test_the_absence_of_the_extra_names_its_cure(monkeypatch):
    real, offline = builtins.__import__, []

    def importing(name):
        said = [os.environ.get(f"{who}_OFFLINE") for who in ("HF_HUB", "TRANSFORMERS")]
        offline.append(said == ["1", "1"])
        if name == "trl":
            raise ModuleNotFoundError("No module named 'trl.extras'", name="trl.extras")
        return real(name)

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(language_models, "import_module", importing)
    with pytest.raises(InputError, match=r"must have trl, .*: pip install 'rlentropy\[lm\]'"):
        language_models.extra("trl")
    assert "HF_HUB_OFFLINE" not in os.environ
    language_models.extra("transformers", online=True)  # for hub: alone
    assert offline == [True, False]
    names = ("hub:a/b", "a/b", "random:2,8", "package:hub")
    assert [language_models.from_hub(name) for name in names] == [True, False, False, False]
