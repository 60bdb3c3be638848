"""One file per message or header format: the frozen record, its decoder, its encoder. No I/O."""
