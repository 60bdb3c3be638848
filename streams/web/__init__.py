"""The worker's HTTP port: health, metrics, and a page that shows the whole cluster. It only reads."""
