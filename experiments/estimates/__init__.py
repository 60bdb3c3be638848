"""Sources of estimates for policies: neighbours, presets of the router, the truth, trained RoBERTa models."""
