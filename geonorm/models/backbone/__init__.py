"""One equivariant network with scalars and vectors, and one place in it for every row of the tables."""

from geonorm.models.backbone.network import Backbone

__all__ = ["Backbone"]
