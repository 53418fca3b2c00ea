"""The settings file (YAML) as values. pyyaml's only room; safe loading only."""
