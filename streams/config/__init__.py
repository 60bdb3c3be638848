"""Settings, topic names and logging: what a process needs before it talks to Kafka."""
