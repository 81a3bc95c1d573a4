"""The DenseNet family: its structure, the network in PyTorch, and the checkpoints it comes in.

Source: Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks",
arXiv 1608.06993, section 3.
"""
