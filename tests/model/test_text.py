from __future__ import annotations

import numpy as np

from model.text import WIDTH, TextEncoder


def test_embeddings_do_not_depend_on_their_batch_and_tell_meanings_apart() -> None:
    encoder = TextEncoder()
    texts = ["I am so happy for you!", "I'm very glad.", "The train leaves at nine.", "word " * 400]
    together = encoder(texts)
    assert together.shape == (4, WIDTH) and together.dtype == np.float32
    assert np.allclose(together[0], encoder(texts[:1])[0], atol=1e-4)
    like = together[:, -384:] / np.linalg.norm(together[:, -384:], axis=1, keepdims=True)
    assert like[0] @ like[1] > like[0] @ like[2] + 0.2
