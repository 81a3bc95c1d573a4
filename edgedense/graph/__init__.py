"""The deployed form of a network: a flat list of operators with plain arrays.

Everything that happens between training and the engine (folding, equalization, placement of Q/DQ)
is a rewrite of this graph; the simulation and the ONNX export read it as it stands.
"""
