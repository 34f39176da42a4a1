"""What surrounds the pipeline: storage now; prices, metrics and deployment as they come."""
