"""From a fit to a decision."""
