"""RoBERTa's training from end to end, with a tiny random model in a local folder."""

from __future__ import annotations

import json

import numpy as np
import pytest
from structlog.testing import capture_logs

from experiments.__main__ import main
from experiments.cases import Case, Split
from experiments.estimates.roberta import RobertaSource, TrainSettings, predict, train
from experiments.policies.registry import Context, make_policy
from routing.history.history import EmbeddedHistory, History

transformers = pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Save a RoBERTa of 2 layers and 32 units, with a byte-level tokenizer trained on a few words."""
    from tokenizers import ByteLevelBPETokenizer

    folder = tmp_path_factory.mktemp("roberta")
    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(["easy hard question"] * 4, vocab_size=300, special_tokens=special)
    tokenizer.save_model(str(folder))
    transformers.RobertaTokenizerFast(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=64
    ).save_pretrained(folder)
    config = transformers.RobertaConfig(
        vocab_size=300,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=70,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    transformers.set_seed(0)
    transformers.RobertaModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(0)
    hard = rng.random(120) > 0.5
    prompts = [("hard " if h else "easy ") * 3 + "question" for h in hard]
    quality = np.where(hard[:, None], [0.1, 0.9], [0.9, 0.9])
    cost = np.where(hard[:, None], [2e-5, 2e-4], [1e-5, 1e-4]) * rng.uniform(0.99, 1.01, (120, 2))
    history = History([f"q{i}" for i in range(120)], prompts, ["t"] * 120, ["a", "b"], quality, cost)
    vectors = np.tile(np.array([1, 0], np.float32), (120, 1))
    return Split.of(history, vectors, "none", 30, 0)


def test_train_keeps_the_best_epoch_resumes_and_routes(tiny, split, tmp_path):
    past = split.data.select(split.past)
    first = TrainSettings(str(tiny), epochs=2, batch=8, rate=5e-3, patience=4, tokens=32)
    out = tmp_path / "trained"
    losses = train(past, first, out / "seed-0")
    assert len(losses["quality"]) == 2
    more = TrainSettings(str(tiny), epochs=6, batch=8, rate=5e-3, patience=4, tokens=32)
    again = train(past, more, out / "seed-0")
    assert again["quality"][:2] == losses["quality"]
    assert 2 < len(again["cost"]) <= 6
    assert min(again["cost"]) < losses["cost"][0]
    predictions = predict(
        out / "seed-0" / "quality", ["easy easy easy question", "hard hard hard question"], past.digest()
    )
    assert predictions.shape == (2, 2)
    assert predictions[0, 0] > predictions[1, 0]
    case = Case(split, np.arange(30), np.array([1e-3, 1e-3]), 30)
    for name in ("roberta-perf", "roberta-cost"):
        choice = make_policy(name, Context(rows=90, roberta=str(out))).decide(case).choice
        assert set(choice) <= {0, 1}
    with pytest.raises(ValueError, match="another history"):
        predict(out / "seed-0" / "cost", ["x"], "another")
    with pytest.raises(FileNotFoundError, match="train"):
        RobertaSource(str(tmp_path)).make(split)


@pytest.fixture
def command(tiny, split, tmp_path):
    """Return a function that runs `python -m experiments train` on the rows and the tiny model."""
    EmbeddedHistory(split.data, split.embeddings, "none").save(tmp_path / "data")

    def run(*more, model=tiny):
        options = [
            "train",
            "--dataset",
            str(tmp_path / "data"),
            "--queries",
            "30",
            "--out",
            str(tmp_path / "out"),
        ]
        return main([*options, "--model", str(model), "--epochs", "1", "--batch", "16", *more])

    return run


def test_train_command_resumes_only_with_the_same_settings(command, tmp_path, capsys):
    with capture_logs() as logs:
        assert command("--seeds", "0", "--tokens", "512") == 0
    # RoBERTa uses the positions from 2 on, of 70.
    cut = [log for log in logs if log["event"] == "roberta_tokens_cut"]
    assert {log["tokens"] for log in cut} == {68}
    facts = json.loads((tmp_path / "out" / "seed-0" / "quality" / "facts.json").read_text())
    assert facts["tokens"] == 68
    assert command("--seeds", "0", "--tokens", "512", "--epochs", "2") == 0
    for more, name in [
        (["--rate", "1e-3"], "rate"),
        (["--tokens", "16"], "tokens"),
        (["--batch", "8"], "batch"),
    ]:
        assert command("--seeds", "0", "--tokens", "512", *more) == 2
        assert f"trained with {name}" in capsys.readouterr().err


def test_train_command_with_another_model_does_not_resume(command, tiny, tmp_path, capsys):
    assert command() == 0
    other = transformers.RobertaModel.from_pretrained(tiny)
    other.embeddings.word_embeddings.weight.data += 0.1
    other.save_pretrained(tmp_path / "other")
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "tokenizer.json"):
        if (tiny / name).exists():
            (tmp_path / "other" / name).write_bytes((tiny / name).read_bytes())
    assert command(model=tmp_path / "other") == 2
    assert "trained with model" in capsys.readouterr().err


def test_train_command_without_the_hub_asks_for_a_folder(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    for model in ("missing/model", tmp_path / "empty"):
        assert command(model=model) == 2
        assert "--model FOLDER" in capsys.readouterr().err


def test_predict_truncates_prompts_to_the_models_positions(tiny, split, tmp_path):
    past = split.data.select(split.past)
    train(past, TrainSettings(str(tiny), epochs=1, batch=16, tokens=512), tmp_path)
    predictions = predict(tmp_path / "quality", ["easy question " * 300], past.digest())
    assert np.isfinite(predictions).all()
