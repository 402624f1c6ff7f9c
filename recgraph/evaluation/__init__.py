"""Full-catalogue ranking, metrics of rankings, clicks and labels, and significance tests."""
