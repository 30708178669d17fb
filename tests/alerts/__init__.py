"""The alerts: each one fires when it should, stays quiet when it should, and has a page."""
