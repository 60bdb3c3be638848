"""Planning: the period rule, samples, the schedule of solves, price solvers, the planner."""
