"""The networks of other code bases as they define them, scaled down, and the files they save.

Each module is written anew from its code base's structure: names, order of operations, forward.
"""
