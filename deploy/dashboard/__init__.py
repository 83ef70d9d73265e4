"""The Grafana dashboard: what it shows, written as JSON, tried on a real Prometheus, and drawn."""
