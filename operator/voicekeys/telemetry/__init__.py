"""Metrics declared once with their help texts, and logging whose last step redacts."""
