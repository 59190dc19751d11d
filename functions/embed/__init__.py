"""The GPU batch job: claims chunks that wait for vectors, encodes and stores them, publishes what is complete."""
