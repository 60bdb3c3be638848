"""Running policies over points and seeds: validation before the first run, the runner, result files."""
