"""Programs that measure the router's speed, memory and capacity."""
