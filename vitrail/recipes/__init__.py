"""Recipes: each file's ``run()`` returns a :class:`~vitrail.train.run.Run`; its docstring gives the command, the cost
and the measured result. ``vitrail train --recipe NAME`` starts from one, and any option changes it.
"""
