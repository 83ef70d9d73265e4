"""The manifests of Kubernetes and Ray: what is written from other files, and their schemas."""
