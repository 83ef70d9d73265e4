"""The commands of the recipe: a user's mistake ends each with one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from model.train import __main__ as recipe
from model.train import export, transformer
from model.train.autoencoder import __main__ as autoencoder
from model.train.autoencoder import decoder
from model.train.data import duplicates
from model.train.evaluation import __main__ as evaluation
from model.train.evaluation import classifier, report

FIGURES = ("--classifier=none", "--vae=none", "--json=none/f.json", "ddim:1:1")
COMMANDS = [
    (recipe.main, "train", ["--data=none", "--out=run"]),
    (autoencoder.main, "train", ["--data=none", "--out=run"]),
    (decoder.main, "train", ["--data=none", "--out=run", "--vae=none"]),
    (transformer.main, "train", ["--data=none", "--out=run", "--vae=none"]),
    (classifier.main, "train", ["--data=none", "--out=run"]),
    (duplicates.main, "compare", ["--data=none"]),
    (export.main, "export", ["--data=none", "--run=none", "--out=model"]),
    (evaluation.main, "evaluate", ["--data=none", "--model=/none", *FIGURES]),
    (report.main, "write the page", ["none.json", "--page=page.md"]),
]


@pytest.mark.parametrize(("main", "action", "arguments"), COMMANDS)
def test_a_missing_file_is_named_without_a_traceback(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    main: object,
    action: str,
    arguments: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    assert callable(main)
    with pytest.raises(SystemExit, match=rf"^cannot {action}: .*none") as caught:
        main()
    assert "\n" not in str(caught.value)
