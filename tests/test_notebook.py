"""The notebook of the documentation runs from its first cell to its last."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.timeout(900)
def test_quickstart_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    kernels = pytest.importorskip("jupyter_client.kernelspec")
    try:
        kernels.get_kernel_spec("python3")
    except kernels.NoSuchKernel:
        pytest.skip("there is no Jupyter kernel python3: pip install ipykernel")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    notebook = nbformat.read(ROOT / "docs" / "quickstart.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(ROOT)}}).execute()
    pictures = [
        out
        for cell in notebook.cells
        for out in cell.get("outputs", ())
        if "image/png" in out.get("data", {})
    ]
    texts = [
        out["text"]
        for cell in notebook.cells
        for out in cell.get("outputs", ())
        if out.output_type == "stream"
    ]
    assert len(pictures) == 2, "the pictures and the curve"
    assert any("selective_detail" in text for text in texts)
    assert not any("Warning" in text for text in texts)
