"""A page in the browser to look at samples: of a recording, or of a live stream."""
