"""Language models and text embedders: what the service asks of them, and who provides them."""
