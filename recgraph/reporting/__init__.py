"""Renders results as tables, charts and pages."""
