"""What the documentation site has beside the pages of `docs/`: what the code says of itself."""
