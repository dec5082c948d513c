"""From a fit, a table or a decision to frames, and from frames to charts.

Every kind is a file with two steps: frames of the numbers, which need no altair, and `chart`, which draws them.
"""
