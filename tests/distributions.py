"""The packages that modules come from."""

import importlib.metadata
from collections.abc import Collection

from packaging.utils import canonicalize_name

DISTRIBUTIONS = importlib.metadata.packages_distributions()


def is_brought(module: str, packages: Collection[str]) -> bool:
    """Return whether one of these packages has a top-level module.

    Parameters
    ----------
    module : str
    packages : collection of str
        Canonical names.

    Notes
    -----
    A package that is not installed here is known by its name alone.
    """
    if installed := {canonicalize_name(name) for name in DISTRIBUTIONS.get(module, [])}:
        return not installed.isdisjoint(packages)
    return any(name.replace("-", "").startswith(module.replace("_", "")) for name in packages)
