"""Who carries out the shards of a conversion: this machine, or a Ray cluster."""
