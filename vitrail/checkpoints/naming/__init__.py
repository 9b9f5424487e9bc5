"""Tables of names: how the tensors of one model correspond to ours, in a file that a user can read and correct, and how
such a table is drafted from names and shapes alone."""
