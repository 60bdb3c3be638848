"""An HTTP service that speaks OpenAI's API: requests become queries, and answers become responses."""
