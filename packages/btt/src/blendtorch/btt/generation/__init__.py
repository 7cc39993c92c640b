"""From a description of a run to a data set on disk: what the commands `init`, `generate` and `schema` do."""
