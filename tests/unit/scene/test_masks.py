"""Which pixels belong to which source, beside brute force."""

import numpy as np

from bayesprf.scene.masks import alone_mask, radius_mask


def test_pairs_within_a_radius(pairs):
    radius = np.linspace(2.0, 11.0, 7)
    np.testing.assert_array_equal(radius_mask(pairs, radius), pairs.r < radius[pairs.source])


def test_alone(pairs):
    member = pairs.r < 9.0
    contaminant = np.arange(7) != 4
    claims = pairs.to_sparse((member & contaminant[pairs.source]).astype(float)).toarray()
    others = claims.sum(axis=0)[pairs.pixel] - claims[pairs.source, pairs.pixel]
    np.testing.assert_array_equal(alone_mask(pairs, member, contaminant), member & (others == 0))
