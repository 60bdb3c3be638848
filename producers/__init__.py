"""Programs beside the router: send queries, prepare and replay data sets, answer batches and run fleets."""
