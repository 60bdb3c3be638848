"""`python -m producers.fleet`: workers that answer the queries routed to one LLM and report the costs."""
