"""Blocks: every clip lies in one, whole."""

import numpy as np

from data.blocks import Blocks


def test_clips_belong_to_the_block_they_begin_in():
    shard = np.array([0, 0, 0, 1, 1], np.int32)
    offset = np.array([0, 40, 130, 0, 250])
    num_samples = np.array([40, 90, 70, 250, 10])
    blocks = Blocks.of(shard, offset, num_samples, num_bytes=200)
    assert blocks.of_clip.tolist() == [0, 0, 1, 2, 3]
    assert blocks.shard.tolist() == [0, 0, 1, 1]
    assert blocks.start.tolist() == [0, 130, 0, 250]
    assert blocks.stop.tolist() == [130, 200, 250, 260]
    assert blocks.num_bytes.tolist() == [260, 140, 500, 20]
    assert blocks.rows(0).tolist() == [0, 1]


def test_any_order_of_clips_is_cut_alike(toy_pack):
    places = toy_pack.shard, toy_pack.offset, toy_pack.num_samples
    blocks = Blocks.of(*places, num_bytes=50_000)
    order = np.random.default_rng(0).permutation(len(toy_pack))
    other = Blocks.of(*(place[order] for place in places), num_bytes=50_000)
    assert len(blocks) > len(toy_pack.info.shard_bytes)
    assert np.array_equal(other.of_clip, blocks.of_clip[order])
    assert np.array_equal(other.start, blocks.start)
    assert np.array_equal(other.stop, blocks.stop)
    assert blocks.num_bytes.sum() == sum(toy_pack.info.shard_bytes)
    assert (blocks.num_bytes < 50_000 + 2 * toy_pack.num_samples.max()).all()
