"""What a training run is, as a row of a table; the tables that come with scalegrow."""

from scalegrow.runs.recorder import Recorder, open_log

__all__ = ["Recorder", "open_log"]
