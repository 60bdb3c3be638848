"""The plan and the catalogue in force. One planner publishes plans, and every worker follows them."""
