"""The functions as zips for Lambda, each with nothing but what it needs, and the same bytes for the same input."""
