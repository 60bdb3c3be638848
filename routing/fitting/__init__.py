"""Presets: fitting them to a history, saving and loading the fit."""
