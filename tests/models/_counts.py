"""Numbers of weights, as the papers count them."""


def count_weights(net):
    """Parameters of two or more dimensions: biases and batch normalization do not count."""
    return sum(parameter.numel() for parameter in net.parameters() if parameter.ndim > 1)
