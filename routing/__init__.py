"""The routing algorithm: estimates, dual prices, budgets and the online policy. Pure: no Kafka, no environment, no clock."""
