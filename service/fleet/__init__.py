"""Several replicas and models behind one address; the parts that need Ray are in deployments/."""
