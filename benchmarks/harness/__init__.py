"""What the benchmarks are made of: inputs, pairs of layers, the clock, the memory meter, the words on the machine."""
