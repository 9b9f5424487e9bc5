"""How samples and their targets are stored: image files, arrays, archives, maps, annotations; and written again."""
