"""Configuration of Sphinx for the web page; `tools/site.py` lays out the sources that it reads."""

from tools.publish import address
from tools.regression.notebooks import ROOT

project = "Convolutional networks and adversarial examples"
html_title = "CNNs and adversarial examples"
project_copyright = "MIT licence for code and text; MNIST: Y. LeCun and C. Cortes, CC BY-SA 3.0"
language = "en"

extensions = ["myst_nb", "sphinx-mathjax-offline"]  # the latter ships MathJax with the page
exclude_patterns = ["parts.md", "corrections.md", "introduction.md"]  # parts of index.md
nb_execution_mode = "off"  # the committed outputs are the published ones
nb_ipywidgets_js = {}  # no widget is stored, so nothing of theirs is fetched
nb_code_prompt_show = "The set-up cell: it finds the course"
nb_code_prompt_hide = "The set-up cell: it finds the course"
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 4

html_theme = "sphinx_book_theme"
html_static_path = ["static"]
html_css_files = ["course.css"]
html_js_files = ["course.js"]
html_context = {"default_mode": "auto"}
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {
    "repository_url": f"https://github.com/{address(ROOT)}",
    "repository_branch": "main",
    "use_repository_button": True,
    "use_download_button": False,  # what was laid out for the page is not what a learner wants to run
    "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    "home_page_in_toc": True,
    "navbar_persistent": [],  # the search stands in the sidebar already
    "show_toc_level": 2,
    "show_navbar_depth": 2,
    "pygments_light_style": "a11y-light",
    "pygments_dark_style": "a11y-dark",
}
