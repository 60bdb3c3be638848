"""The routing algorithm: estimates, dual prices, budgets, the online policy. Pure: no Kafka, no clock."""
