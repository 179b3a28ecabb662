"""What tests compare with, by family: dense numpy, written from the equations.

Nothing here imports the package.
"""
