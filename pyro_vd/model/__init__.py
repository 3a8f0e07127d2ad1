"""A network as a Pyro model: lift, likelihoods, and the public contract of a guide, WeightGuide."""
