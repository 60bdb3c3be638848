"""Estimators of quality and cost, one file each; `base` has their interface, `registry` lists them."""
