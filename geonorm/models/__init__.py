"""Published models with every normalizer switchable by itself; import the module that you need."""
