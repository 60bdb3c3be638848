"""The laboratory: policies to compare the router with, the paper's experiments and further ones."""
