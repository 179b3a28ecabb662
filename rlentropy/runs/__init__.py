"""Run folders: written, read, and what their policies are."""
