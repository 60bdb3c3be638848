"""Notes about settings that have no effect in combination with the others."""

from __future__ import annotations

from collections.abc import Collection

from streams.config.settings import Settings

OF_NEIGHBOURS = ("k", "weighting", "cost_estimate", "index", "embedder")
OF_RESOLVING = ("resolve_every", "resolve_late", "resolve_tail", "resolve_window")


def unused_settings(settings: Settings, explicit: Collection[str], fitted: str | None) -> list[str]:
    """Return a text for each setting that is set but has no effect.

    Parameters
    ----------
    settings : Settings
        The settings in force, including the preset's values.
    explicit : collection of str
        Settings that are set explicitly; the others are not reported.
    fitted : str or None
        The preset for which the history was fitted, if any.
    """
    resolves_every, history = settings.resolve == "every", settings.warmup == "history"
    remaining = settings.mix == "remaining" and not (resolves_every and settings.solver == "newton")
    cases = [
        (("mix",), remaining, "without resolve=every and solver=newton", "set these, too"),
        (OF_RESOLVING, not resolves_every, "without resolve=every", "set that, too"),
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
        (("exploration_budget",), not settings.exploration, "without exploration", "set that, too"),
        (("web_host", "web_token"), settings.web_port is None, "without web_port", "set that, too"),
    ]
    return [
        f"{name}: does nothing {why}; leave it out, or {fix}"
        for names, idle, why, fix in cases
        if idle
        for name in names
        if name in explicit
    ]
