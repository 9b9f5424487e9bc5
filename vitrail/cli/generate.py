"""Pictures drawn by a generative model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import PositiveInt

from vitrail.console import note
from vitrail.errors import UserError
from vitrail.terminal.next_command import Blank, name_next
from vitrail.terminal.options import AllowPickle, BatchSize, Device, Json, Names
from vitrail.version import __version__

GROUP = "Use a model"
COLUMNS = 8  # of the sheet


def generate(
    run: str,
    /,
    *,
    label: Annotated[str | None, Parameter("--class", help="What to draw; default: all classes in turn.")] = None,
    count: PositiveInt = 16,
    steps: PositiveInt | None = None,
    guidance: float | None = None,
    sampler: Literal["euler", "heun", "dpm_solver"] | None = None,
    seed: int = 0,
    inpaint: Path | None = None,
    mask: Path | None = None,
    colour: Path | None = None,
    enlarge: Path | None = None,
    vary: Path | None = None,
    strength: float = 0.5,
    out: Path = Path("drawn"),
    as_json: Json = False,
    batch_size: BatchSize = 64,
    device: Device = "auto",
    allow_pickle: AllowPickle = False,
    names: Names = None,
) -> None:
    """Draw pictures with a model that vitrail train --task generation trained.

    Each picture is a PNG file that says that a model drew it, in a folder of its class; a sheet beside the folder shows
    all of them.

    Examples
      vitrail generate runs/fashion --class dress --count 16 --steps 25 --guidance 2 --out drawn
      vitrail generate runs/flowers --inpaint photo.jpg --mask hole.png
      vitrail generate runs/flowers --vary photo.jpg --strength 0.6 --count 4
      vitrail generate runs/flowers --enlarge thumbnail.png

    Args:
        run: A run folder, a weights file, or another library's folder.
        count: Number of pictures.
        steps: Of the sampler; default: as in the file.
        guidance: Above 1, pictures are clearer and more alike; default: as in the file.
        sampler: What solves the way from noise to picture; default: as in the file.
        seed: Other numbers draw other pictures.
        inpaint: A picture of which to draw the part that is white in --mask.
        mask: A picture of the same size, white where to draw.
        colour: A picture whose colours to draw.
        enlarge: A small picture whose detail to draw.
        vary: A picture to draw similar ones of.
        strength: Of --vary: how much may change, from 0 to 1.
        out: A folder for the pictures; nothing there is overwritten.
    """
    from vitrail.files import write_new
    from vitrail.generator import load_generator
    from vitrail.predictions.pictures import contact_sheet
    from vitrail.predictions.synthetic import png_of_synthetic
    from vitrail.terminal.pictures import file_name

    guides = {"inpaint": inpaint, "colour": colour, "enlarge": enlarge, "vary": vary}
    given = [name for name, path in guides.items() if path is not None]
    if len(given) > 1:
        raise UserError(f"--{given[0]} and --{given[1]} exclude each other; choose one")
    if (inpaint is None) != (mask is None):
        raise UserError("--inpaint and --mask go together: a picture, and where to draw in it")
    model = load_generator(run, device=device, allow_pickle=allow_pickle, names=names)
    settings = model.sampler(name=sampler, steps=steps, guidance=guidance)
    guide = None
    if inpaint is not None and mask is not None:
        guide = model.inpaint(str(inpaint), str(mask))
    elif given:
        path = str(guides[given[0]])
        guide = model.vary(path, strength) if vary is not None else getattr(model, given[0])(path)
    drawn = model.draw(
        label, count, seed=seed, sampler=settings, batch_size=batch_size, guide=guide, progress=not as_json
    )
    folders = [out / file_name(each.label) if each.label is not None else out for each in drawn]
    paths = [
        each.save(folder / f"{number:04d}.png")
        for number, (each, folder) in enumerate(zip(drawn, folders, strict=True))
    ]
    pictures = contact_sheet([each.image for each in drawn], COLUMNS)
    place = out.parent / f"{out.resolve().name or 'pictures'}-sheet.png"  # beside the folder, which may be called "."
    sheet = write_new(place, png_of_synthetic(pictures, f"vitrail {__version__}"))
    if as_json:
        print(json.dumps([{"file": str(path), **each.to_dict()} for path, each in zip(paths, drawn, strict=True)]))
        return
    note(f"written: {len(paths):,} pictures in {out}, all of them on {sheet}")
    name_next("fidelity", Blank("REAL"), out, "--features", Blank("MODEL"))
