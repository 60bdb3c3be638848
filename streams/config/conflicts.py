"""Conflicts between settings, and the error that reports them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any


class ConflictingSettingsError(ValueError):
    """Conflicting settings; `problems` has a text for each conflict."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def conflicting_settings(settings: Any, wrong: Collection[str] = ()) -> list[str]:
    """Return a text for each conflict between settings, with its fix.

    Parameters
    ----------
    settings : streams.config.settings.Settings
    wrong : collection of str
        Invalid settings; conflicts that involve them are left out.
    """
    conflicts = [*_security(settings), *_other_conflicts(settings)]
    return [text for names, text in conflicts if not set(names) & set(wrong)]


def _security(settings: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    protocol = settings.security_protocol
    logins = ("sasl_mechanism", "sasl_username", "sasl_password")
    if protocol.startswith("SASL"):
        for name in logins:
            if getattr(settings, name) is None:
                fix = f"{protocol} needs it; set PORT_{name.upper()}"
                yield ("security_protocol", name), f"{name}: not set; {fix}"
    elif any(getattr(settings, name) for name in logins):
        yield (
            ("security_protocol",),
            f"security_protocol: {protocol} does not log in, yet there are SASL settings; "
            "set SASL_SSL or SASL_PLAINTEXT",
        )
    if not protocol.endswith("SSL") and (settings.ssl_cafile or settings.ssl_certfile):
        yield (
            ("security_protocol",),
            f"security_protocol: {protocol} does not encrypt, yet there are SSL files; set SSL or SASL_SSL",
        )
    if (settings.ssl_certfile is None) != (settings.ssl_keyfile is None):
        files = ("ssl_certfile", "ssl_keyfile")
        yield files, "ssl_certfile, ssl_keyfile: one is set without the other; set both or none"


def _other_conflicts(settings: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    if settings.lockstep and settings.partitions > 1:
        yield (
            ("lockstep", "partitions"),
            f"lockstep: needs one partition, there are {settings.partitions}; set partitions to 1",
        )
    local = settings.web_host in ("127.0.0.1", "::1", "localhost")
    if settings.web_port is not None and not local and settings.web_token is None:
        yield (
            ("web_host", "web_port", "web_token"),
            f"web_token: not set; the page at {settings.web_host} is open to others without it; "
            "set PORT_WEB_TOKEN",
        )
    if settings.batch_max > settings.lane_room:
        yield (
            ("batch_max", "lane_room"),
            f"lane_room: {settings.lane_room} is less than batch_max {settings.batch_max}, "
            "so no transaction would be full; raise lane_room",
        )
