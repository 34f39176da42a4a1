"""How a job is spread over a cluster: measured seconds, the plan they give, and its simulation."""
