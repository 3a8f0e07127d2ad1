"""What each layer and each operation does to the channels of a network, for :func:`pyro_vd.compress.shrink`."""
