"""Settings that somebody set and that do nothing beside the others: no mistake, yet worth a word."""

from __future__ import annotations

from collections.abc import Collection

from streams.settings import Settings

OF_NEIGHBOURS = ("k", "weighting", "cost_estimate", "index", "embedder")
OF_RESOLVING = ("resolve_every", "resolve_late", "resolve_tail", "resolve_window")


def idle_settings(settings: Settings, said: Collection[str], fitted: str | None) -> list[str]:
    """A text for each setting that does nothing.

    Parameters
    ----------
    settings : Settings
        As in force, what the preset says included.
    said : collection of str
        Settings that somebody set; the others may well do nothing.
    fitted : str or None
        The preset that the history was fitted for, where it was.
    """
    every, history = settings.resolve == "every", settings.warmup == "history"
    remaining = settings.mix == "remaining" and not (every and settings.solver == "newton")
    cases = [
        (("mix",), remaining, "without resolve=every and solver=newton", "set these, too"),
        (OF_RESOLVING, not every, "without resolve=every", "set that, too"),
        (
            ("eps",),
            history and settings.resolve != "geometric",
            "with warmup=history unless resolve=geometric",
            "set one of them otherwise",
        ),
        (("warmup_seconds",), history, "with warmup=history, where nothing waits", "set warmup=buffer"),
        (
            OF_NEIGHBOURS,
            fitted is not None,
            f"with a history that was fitted for preset {fitted}",
            "take a history that was not fitted",
        ),
        (("default_max_tokens",), settings.reserve != "bound", "without reserve=bound", "set that, too"),
        (
            ("seed",),
            settings.warmup != "random" and not settings.exploration,
            "without warmup=random or exploration, as nothing is random",
            "set one of them",
        ),
        (("web_host", "web_token"), settings.web_port is None, "without web_port", "set that, too"),
    ]
    return [
        f"{name}: does nothing {why}; leave it out, or {fix}"
        for names, idle, why, fix in cases
        if idle
        for name in names
        if name in said
    ]
