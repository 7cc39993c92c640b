"""The renderers, annotators and randomizers that every blendtorch has."""
