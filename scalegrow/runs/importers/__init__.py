"""Logs that other trainers and trackers kept, read into the run table: read, map, refuse what cannot be, build."""
