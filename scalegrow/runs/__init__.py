"""What a training run is, as a row of a table; the tables that come with scalegrow."""
