"""What a service holds: models with external ids, ready to be asked."""
