"""Training: the one loop and what it is assembled from; ``run.py`` is the description, ``loop.py`` the doing."""
