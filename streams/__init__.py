"""The Faust application: queries in, each on its LLM's topic, once, within budget."""
