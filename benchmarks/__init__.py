"""How fast the building blocks are, beside other libraries' and beside simpler code."""
