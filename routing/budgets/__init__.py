"""Money: picodollars, the catalogue, budget splits, grants and cost bounds."""
