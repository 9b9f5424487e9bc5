"""Recipes: each file's ``run()`` returns a :class:`~vitrail.train.run.Run`; its docstring gives the command, the cost
and the result, measured or published. ``vitrail train --recipe NAME`` starts from one, and any option changes it.
"""
