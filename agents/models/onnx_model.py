"""Converts a whole model to an ONNX graph in float64, from encoded columns to predictions.

It uses ONNX's own operators alone, those of which runtimes have float64 kernels; of tables and categories it knows
nothing. Features and hidden activations are rounded as in training.
"""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tercet.agents.models.full_model import FullModel
from tercet.mpc.arithmetic.fixed import CLIP
from tercet.mpc.functions.hidden import GELU_CUBE, GELU_SCALE, LEAK
from tercet.tables.encoding.encoding import Encoding

OPSET, IR = 17, 8  # of 2022: old enough for runtimes in use
COLUMNS, OFFSET, SCORES, PREDICTIONS = "columns", "offset", "scores", "predictions"
DOUBLE = TensorProto.DOUBLE


class Graph:
    """Nodes and constants, each under a name of its own."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any) -> str:
        """Add a constant tensor: numbers as float64, whole ones as int64."""
        array = np.asarray(value)
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def __call__(self, op: str, *inputs: Any, out: str = "", **attributes: Any) -> str:
        """Add a node; inputs that are no names become constants. The name of its one output."""
        out = out or f"{op.lower()}{len(self.nodes)}"
        names = [one if isinstance(one, str) else self.constant(one) for one in inputs]
        self.nodes.append(helper.make_node(op, names, [out], **attributes))
        return out


def onnx_model(model: FullModel) -> bytes:
    """Make the graph from `columns` to `scores` (rows, outputs) and `predictions`.

    `columns` are (rows, all parties' encoded columns).

    Columns are those before whitening, which is part of the graph: numbers standardised, texts one-hot.

    Scores are as a prediction's file has them. Predictions are the probabilities of both or all classes, or the
    expected label, (rows, 1). Names of columns and classes are in the metadata, as JSON. A model with an offset takes
    `offset` too, (rows, 1): of an exposure its logarithm.
    """
    about, graph = model.description, Graph()
    z, inputs = _add_forward_pass(graph, model), []
    if about.offset is not None:
        inputs = [helper.make_tensor_value_info(OFFSET, DOUBLE, ["rows", 1])]
    scores = _in_labels_terms(graph, model, z)
    _predictions(graph, about.link, scores)
    names = [f"{one.party}/{name}" for one in about.columns for name in one.encoding.column_names]
    outputs = 2 if about.link == "logistic" else about.outputs
    made = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "tercet",
            [helper.make_tensor_value_info(COLUMNS, DOUBLE, ["rows", len(names)]), *inputs],
            [
                helper.make_tensor_value_info(SCORES, DOUBLE, ["rows", about.outputs]),
                helper.make_tensor_value_info(PREDICTIONS, DOUBLE, ["rows", outputs]),
            ],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="tercet",
        producer_version=about.tercet,
    )
    classes = [] if about.classes is None else list(about.classes.names)
    properties = {"job": about.job, "link": about.link, "columns": json.dumps(names), "classes": json.dumps(classes)}
    helper.set_model_props(made, properties)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def _add_forward_pass(graph: Graph, model: FullModel) -> str:
    """Add the forward pass to the last layer's scores."""
    about, start, sums = model.description, 0, graph.constant(model.biases[0])
    for columns, block in zip(about.columns, model.blocks, strict=True):
        if not len(block):  # of a label party without columns
            continue
        stop = start + len(columns.encoding.column_names)
        part = graph("Slice", COLUMNS, np.array([start]), np.array([stop]), np.array([1]))
        part = _whiten(graph, part, columns.encoding)
        features = _round(graph, _clip(graph, part, columns.norm, len(block), about.fx), about.fx)
        sums = graph("Add", sums, graph("MatMul", features, block))
        start = stop
    if about.network is not None:
        activate = HIDDEN_NODES[about.network.activation]
        for layer, bias in zip(model.upper, model.biases[1:], strict=True):
            activation = _round(graph, activate(graph, sums), about.fx)
            sums = graph("Add", graph("MatMul", activation, layer), bias)
    return sums


def _whiten(graph: Graph, part: str, encoding: Encoding) -> str:
    """Whiten, clip and round a party's columns as in training."""
    if encoding.whitening is None:
        return part
    directions, offset = np.array(encoding.whitening.directions), np.array(encoding.whitening.offset)
    return graph("Clip", graph("Sub", graph("MatMul", part, directions.T), offset), -encoding.clip, encoding.clip)


def _clip(graph: Graph, part: str, norm: float, width: int, bits: int) -> str:
    """Clip numbers to CLIP, and rounded rows to the length `norm`, like `fixed.encode_features`."""
    norm -= math.sqrt(width) * 2.0 ** -(bits + 1)
    part = graph("Clip", part, -CLIP, CLIP)
    length = graph("Sqrt", graph("ReduceSum", graph("Mul", part, part), np.array([1]), keepdims=1))
    return graph("Mul", part, graph("Div", norm, graph("Max", length, norm)))


def _round(graph: Graph, x: str, bits: int) -> str:
    """Round to so many fractional bits, ties to even."""
    return graph("Mul", graph("Round", graph("Mul", x, 2.0**bits)), 2.0**-bits)


def _in_labels_terms(graph: Graph, model: FullModel, scores: str) -> str:
    scaling = model.description.label_scaling
    if scaling is not None and scaling.log:
        scores = graph("Add", scores, math.log(scaling.scale))
    elif scaling is not None:
        scores = graph("Add", graph("Mul", scores, scaling.scale), scaling.mean)
    if model.description.offset is not None:
        scores = graph("Add", scores, OFFSET)
    return graph("Identity", scores, out=SCORES)


def _predictions(graph: Graph, link: str, scores: str) -> None:
    match link:
        case "logistic":
            both = graph("Concat", graph("Neg", scores), scores, axis=1)
            graph("Sigmoid", both, out=PREDICTIONS)
        case "softmax":
            graph("Softmax", scores, out=PREDICTIONS, axis=1)
        case "one-vs-rest":  # the sigmoids' logarithms, whose softmax is each sigmoid over their sum
            logs = graph("Neg", _softplus(graph, graph("Neg", scores)))
            graph("Softmax", logs, out=PREDICTIONS, axis=1)
        case "linear":
            graph("Identity", scores, out=PREDICTIONS)
        case _:
            graph("Exp", scores, out=PREDICTIONS)


# --- hidden activations, as mpc.functions.hidden has them


def _softplus(graph: Graph, z: str) -> str:
    small = graph("Exp", graph("Neg", graph("Abs", z)))
    return graph("Add", graph("Max", z, 0.0), graph("Log", graph("Add", small, 1.0)))


def _gelu(graph: Graph, z: str) -> str:
    cube = graph("Mul", graph("Mul", graph("Mul", z, z), z), GELU_CUBE)
    bent = graph("Tanh", graph("Mul", graph("Add", z, cube), GELU_SCALE))
    return graph("Mul", graph("Mul", z, 0.5), graph("Add", bent, 1.0))


HIDDEN_NODES: dict[str, Callable[[Graph, str], str]] = {
    "relu": lambda graph, z: graph("Max", z, 0.0),
    "leaky-relu": lambda graph, z: graph("Max", z, graph("Mul", z, LEAK)),
    "tanh": lambda graph, z: graph("Tanh", z),
    "sigmoid": lambda graph, z: graph("Sigmoid", z),
    "gelu": _gelu,
    "silu": lambda graph, z: graph("Mul", z, graph("Sigmoid", z)),
    "softplus": _softplus,
}
