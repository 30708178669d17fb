"""The API models: equal to the CRDs, exact about durations and times."""
