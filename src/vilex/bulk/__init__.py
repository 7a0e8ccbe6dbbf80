"""A whole collection into token shards: local devices, a Ray cluster."""
