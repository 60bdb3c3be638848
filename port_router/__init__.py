"""The console script `port-router`: every program of the project as one command."""
