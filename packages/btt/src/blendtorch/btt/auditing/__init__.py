"""Whether a data set is what its folder says: every sample looked at, and some rendered again: the command `audit`."""
