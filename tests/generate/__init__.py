"""Generated files: each module here renders some, and `python -m tests.generate` writes or checks them."""
