"""The versions and hashes of the packages in the container image."""
