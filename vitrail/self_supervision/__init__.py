"""What several pretraining methods share."""
