"""Programs that make decisions with one router each, in an environment that has that router installed."""
