"""Estimators of quality and cost, one file each; `base` holds what they take and give."""
