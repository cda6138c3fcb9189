"""A fuzzer of the public functions: `make fuzz`. A call depends on its seed alone, and is one of three kinds.

right: laws hold (`laws`: finite in, finite out; shape and dtype; inputs unchanged; samples independent; the
float64 result within tolerance; NaN told, or in its own sample). clear: an error that the library itself
raised, and that names an argument. fault: everything else.
"""
