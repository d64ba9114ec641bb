"""Exports a label party's whole model as one file, in the format its name asks for.

It reads a model part and writes a file for this user only; it speaks to nobody.
"""

from pathlib import Path

from tercet.agents.core.private_file import replace
from tercet.agents.models.full_model import FullModel, read, write
from tercet.agents.models.model_part import ModelPartProblem
from tercet.schemas.files.invalid import Invalid


def export_model(folder: Path, out: Path) -> None:
    """Write `out`: .safetensors for `tercet.load`, or .onnx from encoded columns to scores.

    Raises:
        Invalid: the part is not the whole model or cannot be read, or the file cannot be written.
    """
    try:
        model = read(folder)
        if out.suffix == ".safetensors":
            write(model, out)
        elif out.suffix == ".onnx":
            _write_onnx(model, out)
        else:
            raise Invalid(f"{out}: name the file .safetensors, for tercet.load, or .onnx")
    except ModelPartProblem as problem:
        raise Invalid(str(problem)) from None
    except OSError as error:
        raise Invalid(f"{out}: {error.strerror}; name a file that you may write") from None


def _write_onnx(model: FullModel, out: Path) -> None:
    try:
        from tercet.agents.models.onnx_model import onnx_model  # noqa: PLC0415 - a library that not everybody has
    except ModuleNotFoundError:
        raise Invalid("ONNX needs its library: pip install 'tercet[onnx]'; or name the file .safetensors") from None
    replace(out, onnx_model(model))
