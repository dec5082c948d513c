"""The planner page: one fit as one file of HTML that answers as `scalegrow predict` does, without a network."""
