"""Notebooks whose stored outputs are held true: a pytest plug-in on nbval, for any course of notebooks.

nbval executes a notebook and compares text, character by character; a figure that shows something else passes, and so
does a notebook whose outputs were stripped. `pytest -p tools.regression` collects each notebook under `notebooks/` as
one item a code cell, in a kernel that starts at once, and compares everything: words and whole numbers exactly,
decimals within 1 %, figures to a pixel here and there (`compare`). Cells choose by tags:

    rtol=0.2               numbers may differ by that fraction; above 0.01 whole numbers may as well, and figures are
                           not compared: for what is trained
    rms=6                  a figure's worst part may differ so much, of 255 (2 without a tag)
    nbval-ignore-output    executed, not compared, and counted as such

A table at the end says what was compared and what was not (`stages`); what differs lies side by side on a page in
`build/diff` (`outputs`). `accept` writes new outputs, `portable` measures how far they move on other processors and
under other roundings (`rounding`), `prose` finds the numbers that the text quotes.

nbval 0.11.0 executes the cells. Of its names these are private: `IPyNbFile` (collect, setup, kernel), `IPyNbCell` (its
arguments, cell, cell_num, options, test_outputs, comparison_traceback, and `compare_outputs`, which is replaced),
`NbCellError`, and the kernel's `await_reply` and `is_alive`. Of jupyter_client `kernels` replaces
`local_provisioner.launch_kernel`.
"""

pytest_plugins = ["tools.regression.cells", "tools.regression.stages"]
