"""Objects by their boxes and masks."""

from vitrail.data.object_targets import ObjectTargets

KIND = ObjectTargets("masks")
