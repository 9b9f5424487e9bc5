from __future__ import annotations

import pytest
from blocks import blocks, normalised, run

PAGE = """\
# A page
```python
x = 1
```
Some `inline` text.
```text
not code
```
```bash no-run
exit 1
```
- in a list
  ```python title=folder/thing.py
  def double(x):
      return 2 * x  # twice
  ```

```bash
test -f folder/thing.py > done
```
~~~~python
assert x == 1
~~~~
"""


def test_blocks_in_order_with_language_title_and_line(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    found = [(b.language, b.title, b.code, b.line) for b in blocks(page)]
    assert found == [
        ("python", None, "x = 1\n", 3),
        ("python", "folder/thing.py", "def double(x):\n    return 2 * x  # twice\n", 14),
        ("bash", None, "test -f folder/thing.py > done\n", 19),
        ("python", None, "assert x == 1\n", 22),
    ]


def test_run_shares_the_namespace_and_writes_files(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    monkeypatch.chdir(tmp_path)
    run(page)
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("```bash\nfalse | cat\n```", SystemExit, "page.md:2: bash ended with 1"),
        ("```bash\necho $nothing\n```", SystemExit, "page.md:2: bash ended with"),
        ("```python\nassert 1 == 2, 'unequal'\n```", AssertionError, "unequal"),
        ("```python\nx = 1", ValueError, "never closed"),
    ],
)
def test_a_failing_block_is_an_error(tmp_path, monkeypatch, code, error, words):
    page = tmp_path / "page.md"
    page.write_text(code)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=words):
        run(page)


def test_translations_may_differ_in_comments_and_empty_lines_alone(tmp_path):
    pages = [tmp_path / name for name in ("en.md", "zh.md", "other.md")]
    for page, code in zip(
        pages,
        ('# say\necho "a # b"  # why\n\nls a#b', 'echo "a # b"  # 为什么\n# 说\nls a#b', 'echo "a # c"\nls a#b'),
        strict=True,
    ):
        page.write_text(f"```bash\n{code}\n```\n", encoding="utf-8")
    en, zh, other = ([normalised(block) for block in blocks(page)] for page in pages)
    assert en == zh == [("bash", None, ['echo "a # b"', "ls a#b"])]
    assert en != other
