"""From a recording to the formats of other tools, and what is in a folder of data: `export`, `info` and `verify`."""
