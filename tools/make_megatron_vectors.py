#!/usr/bin/env python3
"""Indexed data sets made by Megatron-LM itself, and its reading of ours. Wants the PyPI packages numpy and megatron-core (pip install --no-deps
megatron-core: only its indexed_dataset.py runs, and of torch nothing but names).
  make_megatron_vectors.py                   writes tests/data/megatron
  make_megatron_vectors.py read PREFIX       prints the documents of PREFIX.bin and .idx as a JSON list of lists of ids"""
import importlib.util, json, pathlib, sys, types

import numpy

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/data/megatron"


def indexed_dataset():
    """megatron.core.datasets.indexed_dataset without the packages above it, which import all of torch."""
    root = pathlib.Path(importlib.util.find_spec("megatron").submodule_search_locations[0])
    for name, path in (("megatron", root), ("megatron.core", root / "core"), ("megatron.core.datasets", root / "core/datasets")):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(path)]
    torch = types.ModuleType("torch")
    torch.Tensor = object
    torch.utils = types.SimpleNamespace(data=types.SimpleNamespace(Dataset=object))
    sys.modules["torch"] = torch
    utils = types.ModuleType("megatron.core.utils")
    utils.log_single_rank = lambda *args, **kwargs: None
    sys.modules["megatron.core.utils"] = utils
    import megatron.core.datasets.indexed_dataset as module
    return module


class Ids:
    """What add_item wants of a tensor."""

    def __init__(self, ids):
        self.ids = ids

    def numpy(self):
        return numpy.array(self.ids)


def write(module, name, dtype, documents, multimodal=False):
    builder = module.IndexedDatasetBuilder(str(OUT / f"{name}.bin"), dtype=dtype, multimodal=multimodal)
    for document in documents:
        for sequence in document:
            builder.add_item(Ids(sequence))
        builder.end_document()
    builder.finalize(str(OUT / f"{name}.idx"))


def make(module):
    OUT.mkdir(exist_ok=True)
    one_each = [[[5, 6, 7, 1]], [[9, 1]], [[100, 101, 102, 103, 104, 105, 1]], [[1]]]
    several = [[[5, 6], [7, 1]], [], [[9], [], [10, 11, 1]], [[127]]]
    expected = {}
    for dtype in (numpy.uint8, numpy.int8, numpy.int16, numpy.int32, numpy.int64, numpy.uint16):
        write(module, dtype.__name__, dtype, one_each)
        expected[dtype.__name__] = one_each
    write(module, "several", numpy.int32, several)
    write(module, "multimodal", numpy.uint16, several, multimodal=True)
    expected["several"] = expected["multimodal"] = several
    wide = [[[4095, 0, 65499, 1]], [[300 * i % 65500 for i in range(1000)]]]
    write(module, "wide", numpy.uint16, wide)
    expected["wide"] = wide
    # Their own width for a vocabulary: what `hadal data export` writes must be these bytes.
    for cardinality in (65499, 65500):
        assert module.DType.optimal_dtype(cardinality) == (numpy.uint16 if cardinality < 65500 else numpy.int32)
    documents = {name: [[i for sequence in document for i in sequence] for document in d] for name, d in expected.items()}
    (OUT / "documents.json").write_text(json.dumps(documents) + "\n")


def read(module, prefix):
    data = module.IndexedDataset(prefix)
    ends = data.document_indices
    documents = [[int(i) for s in range(a, b) for i in data[s]] for a, b in zip(ends[:-1], ends[1:])]
    print(json.dumps(documents))


if __name__ == "__main__":
    module = indexed_dataset()
    if sys.argv[1:2] == ["read"]:
        read(module, sys.argv[2])
    elif len(sys.argv) == 1:
        make(module)
    else:
        raise SystemExit(__doc__)
