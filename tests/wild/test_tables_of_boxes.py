"""Tables of boxes as data sets have them: Global Wheat's ``bbox`` cell, Open Images' shares, centres, ids for names.

A column of boxes under a name that was not known left a class an image, and boxes were lost without a word. Siblings
looked at: corners, sizes and centres under several names, one cell, shares of the image, ids without a suffix, rows
without an object, semicolons, encodings, a column of pixels that are sizes of the image.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import boxes_of, picture, told, write

from vitrail.data.indexing.table_columns import box_columns
from vitrail.errors import UserError

CAT = ("cat", [2, 3, 11, 11])


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("filename,x,y,w,h,label", "a.jpg,2,3,9,8,cat"),
        ("image_id,width,height,bbox,class", 'a,30,20,"[2.0, 3.0, 9.0, 8.0]",cat'),
        ("image;xc;yc;width;height;class_name", "a.jpg;6.5;7;9;8;cat"),
        ("ImageID,LabelName,XMin,XMax,YMin,YMax", "a,cat,0.0666667,0.3666667,0.15,0.55"),
        ("img_path,category,bbox_xmin,bbox_ymin,bbox_xmax,bbox_ymax", "C:\\data\\a.jpg,cat,2,3,11,11"),
    ],
)
def test_boxes_are_found_in_their_columns(header: str, row: str, tmp_path: Path) -> None:
    for name in "ab":
        picture(tmp_path / "images" / f"{name}.jpg")
    separator = ";" if ";" in header else ","
    write(tmp_path / "t.csv", f"{header}\n{row}\nb{separator * header.count(separator)}\n")
    splits, said = told(tmp_path / "t.csv")
    assert splits.kind == "boxes"
    assert boxes_of(splits) == [CAT]
    assert boxes_of(splits, index=1) == []
    assert ("so they are shares" in said) == ("XMin" in header)


def test_other_columns_are_no_boxes() -> None:
    assert box_columns(("path", "width", "height", "label"), []) is None
    assert box_columns(("path", "bbox"), [("a", "[[1, 2], [3, 4]]")]) is None
    assert box_columns(("path", "x", "y"), []) is None


def test_another_encoding_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path / "t.csv", "path,label,x1,y1,x2,y2\na.jpg,café,2,3,11,11\n", "cp1252")
    with pytest.raises(UserError, match=r"row 2: .* is not UTF-8; .* --encoding cp1252"):
        told(tmp_path / "t.csv")
    assert told(tmp_path / "t.csv", encoding="cp1252")[0].classes == ("café",)
