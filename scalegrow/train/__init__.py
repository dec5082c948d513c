"""The only room with torch: models, data, the loop, checkpoints."""
