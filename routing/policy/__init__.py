"""The online rule: plan, account, decision, and the routing of one batch of one lane."""
