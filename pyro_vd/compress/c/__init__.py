"""Writes a network as C: read the graph, code the weights, place the buffers, write the source."""
