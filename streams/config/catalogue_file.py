"""The catalogue's YAML file: the LLMs and the section `settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic_settings import PydanticBaseSettingsSource

from routing.budgets.catalogue import Catalogue
from routing.budgets.schema import CatalogueError

PREFIX = "PORT_"
"""Prefix of the variables of settings."""

BROKER_VARIABLES = ("PORT_BOOTSTRAP_SERVERS", "KAFKA_BOOTSTRAP_SERVERS")

SETTINGS_SECTION = "settings"
"""The section of the catalogue's file with settings, which the environment overrides."""

FILE_SETTINGS = ("history", "ssl_cafile", "ssl_certfile", "ssl_keyfile")
"""Settings that name an existing file or folder; relative paths start at the catalogue's folder."""


class CatalogueFile(PydanticBaseSettingsSource):
    """Settings from the section `settings` of the catalogue's file."""

    def __call__(self) -> dict[str, Any]:
        """Return the section; nothing if the file cannot be read, which other code reports.

        A section that is not a mapping is returned as a setting named `settings`. That setting does not
        exist, so the mistake is reported with all others.
        """
        path = self.current_state.get("catalogue") or self.current_state.get(PREFIX + "CATALOGUE")
        if path is None:
            return {}
        try:
            content = read_yaml(Path(path))
        except CatalogueError:
            return {}
        section = content.get(SETTINGS_SECTION) if isinstance(content, dict) else None
        if section is None:
            return {}
        if not isinstance(section, dict):
            return {SETTINGS_SECTION: section}
        section = {str(key): value for key, value in section.items()}
        explicit = self.current_state.keys() | {
            key.removeprefix(PREFIX).lower() for key in self.current_state
        }
        if explicit & {"bootstrap_servers", *(name.lower() for name in BROKER_VARIABLES)}:
            explicit |= {"bootstrap_servers"}  # it has aliases: the first source that has one must win
        return {
            key: path_beside_file(Path(path), key, value)
            for key, value in section.items()
            if key not in explicit
        }

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Do nothing: `__call__` returns all fields."""
        return None, field_name, False


def path_beside_file(file: Path, key: str, value: Any) -> Any:
    """Return a file's setting of a path relative to the file's folder."""
    return file.parent / value if key in FILE_SETTINGS and isinstance(value, str) else value


def read_catalogue(path: Path) -> Catalogue:
    """Read the catalogue of a YAML file; the section `settings` is ignored.

    Raises
    ------
    CatalogueError
        The file cannot be read, or is invalid; names all problems.
    """
    data = read_yaml(path)
    if isinstance(data, dict):
        data = {key: value for key, value in data.items() if key != SETTINGS_SECTION}
    return Catalogue.from_dict(data)


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises
    ------
    CatalogueError
        The file is missing, is not YAML, or has a duplicate key.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise CatalogueError([f"catalogue: {path} cannot be read ({reason}); name a YAML file"]) from error
    except RecursionError:
        raise CatalogueError([f"catalogue: {path} is nested too deeply; name a YAML file of LLMs"]) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an invalid date or number
        raise CatalogueError([f"catalogue: {path} is not YAML: {' '.join(str(error).split())}"]) from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """Loader of plain data that rejects duplicate keys, because either budget could be meant."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if (key.tag, key.value) in keys:
                    twice = f"{key.value!r} is a duplicate key; remove one"
                    raise yaml.MarkedYAMLError(problem=twice, problem_mark=key.start_mark)
                keys.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


_MERGE = "tag:yaml.org,2002:merge"
