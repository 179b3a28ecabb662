"""The labelling page: a person compares clips in a browser."""
