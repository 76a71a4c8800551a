"""The thin gRPC layer: check, convert, funnel, convert."""
