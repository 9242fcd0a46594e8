"""Audits what an embedding knows, by its neighbours."""
