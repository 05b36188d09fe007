"""Notebooks whose stored outputs are held true: a pytest plug-in on nbval, for any course of notebooks.

nbval executes a notebook and compares text, character by character. It lets pass a figure that shows something else,
a notebook whose outputs were stripped, and what a comment such as `# NBVAL_SKIP` hides; and it fails for ever where a
cell clears its output or updates a display. `pytest -p tools.regression` collects each notebook as one item a code
cell, executes it as `accept` does (`execution`), in a kernel that starts at once (`kernels`), and compares everything:
words and whole numbers exactly, decimals within 1 %, figures to a pixel here and there (`compare`). Three tags choose:

    rtol=0.2               numbers may differ by that fraction; above 0.01 whole numbers may as well, and figures are
                           not compared: for what is trained
    rms=6                  a figure's worst part may differ so much, of 255 (2 without a tag)
    nbval-ignore-output    executed, not compared, and counted as such; so are cells with nbval's other marks

A table at the end says what was compared and what was not (`stages`); what differs lies side by side on a page in
`build/diff` (`outputs`). `accept` writes new outputs, `portable` measures how far they move on other processors and
under other roundings (`rounding`), `prose` finds the numbers that the text quotes.

Elsewhere: copy this folder to `tools/regression` beside your `notebooks/<folder>/<name>.ipynb`, install nbval,
nbclient, pytest-xdist, tqdm, numpy and Pillow (PyTorch for `portable`), type `python -m tools.regression.accept` and
then `pytest -p tools.regression notebooks`. `matplotlib_lock = <file>` in pytest's settings names a file that pins
matplotlib; with another minor version figures are counted as not compared. nbval's own `--nbval...` switches are
refused, but for the time that a cell may take and `--nbval-current-env`, which is what happens.

nbval 0.11.0 says what a cell's tags and comments mean. Of its names these are private: `IPyNbFile` (collect, nb),
`IPyNbCell` (cell, cell_num, options), `find_metadata_tags` and `find_comment_markers`. Of jupyter_client `kernels` adds
a provisioner to the factory's `provisioners`; nbclient's and pytest-xdist's names are public, but for
`LoadScopeScheduling._split_scope`.
"""

pytest_plugins = ["tools.regression.cells", "tools.regression.stages"]
