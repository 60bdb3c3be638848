"""One batch of one lane: decode, estimate, charge, decide, produce."""
