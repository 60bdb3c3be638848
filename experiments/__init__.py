"""The laboratory: policies to compare with, data sets, the paper's experiments and those past it."""
