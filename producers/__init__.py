"""Programs that put queries on the stream: a benchmark's, or one's own."""
