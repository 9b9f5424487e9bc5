"""Objects by their boxes."""

from vitrail.data.object_targets import ObjectTargets

KIND = ObjectTargets("boxes")
