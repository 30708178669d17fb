"""A voice agent for real nodes whose calls a test begins and ends; it uses the project's library as any agent would."""
