"""The file of API keys."""

import hashlib
import os
from pathlib import Path

import pytest

from producers.gateway.api_errors import ApiError
from producers.gateway.keys import ApiKeys, KeysFileError


def test_keys_map_to_teams_and_metadata(tmp_path: Path):
    digest = hashlib.sha256(b"sk-hidden").hexdigest()
    file = tmp_path / "keys.yaml"
    file.write_text(f'keys:\n  sk-a: search\n  sk-b: {{team: ads, region: eu}}\n  "sha256:{digest}": batch\n')
    keys = ApiKeys(file)

    assert keys.caller("Bearer sk-a").metadata == {"team": "search"}
    assert keys.caller("bearer sk-b").metadata == {"team": "ads", "region": "eu"}
    assert keys.caller("Bearer sk-hidden").name == "batch"
    for header in (None, "", "Bearer", "Bearer sk-c", "Basic sk-a", f"Bearer sha256:{digest}"):
        with pytest.raises(ApiError) as caught:
            keys.caller(header)
        assert caught.value.status == 401


def test_changed_file_is_read_and_an_invalid_one_changes_nothing(tmp_path: Path):
    file = tmp_path / "keys.yaml"
    file.write_text("keys: {sk-a: search}")
    keys = ApiKeys(file)
    file.write_text("keys: [broken")
    os.utime(file, ns=(1, 1))
    assert keys.caller("Bearer sk-a").name == "search"
    file.write_text("keys: {sk-new: ads}")
    os.utime(file, ns=(2, 2))
    assert keys.caller("Bearer sk-new").name == "ads"
    with pytest.raises(ApiError):
        keys.caller("Bearer sk-a")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("keys: [", "YAML"),
        ("[]", "keys: must map"),
        ("keys: {}", "keys: must map"),
        ("keys: {7: a}", "entry 1: the key"),
        ("keys: {sk-a: 7}", "entry 1: must be a team"),
        ("keys: {sk-a: {team: 7}}", "entry 1: must be a team"),
        ('keys: {"sha256:ab": a}', "64 hexadecimal"),
        (f'keys: {{sk-a: a, "sha256:{hashlib.sha256(b"sk-a").hexdigest()}": b}}', "entry 2: is a duplicate"),
    ],
)
def test_invalid_file_names_the_entry_and_not_the_key(content: str, text: str, tmp_path: Path):
    file = tmp_path / "keys.yaml"
    file.write_text(content)
    with pytest.raises(KeysFileError, match=text) as caught:
        ApiKeys(file)
    assert "sk-a" not in str(caught.value)
