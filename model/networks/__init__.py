"""DiT and the autoencoder: plain modules, independent of devices and backends."""
