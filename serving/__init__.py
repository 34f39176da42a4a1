"""Online: the pair behind an OpenAI-compatible endpoint on Ray Serve."""
