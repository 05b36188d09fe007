"""Configuration of Sphinx for the web page; `tools/site.py` lays out the sources that it reads."""

import re

from tools.publish import address
from tools.regression.notebooks import ROOT

OWNER, NAME = address(ROOT).split("/")
README = (ROOT / "README.md").read_text(encoding="utf-8")

project = "Convolutional networks and adversarial examples"
html_title = "CNNs and adversarial examples"
language = "en"

extensions = ["myst_nb", "sphinx-mathjax-offline"]  # the latter ships MathJax with the page
exclude_patterns = ["parts.md", "corrections.md", "introduction.md"]  # parts of index.md
nb_execution_mode = "off"  # the committed outputs are the published ones
nb_ipywidgets_js = {}  # no widget is stored, so nothing of theirs is fetched
nb_code_prompt_show = nb_code_prompt_hide = "Folded code"
mathjax3_config = {"options": {"menuOptions": {"settings": {"inTabOrder": False}}}}  # a formula is no button
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 4

html_theme = "sphinx_book_theme"
html_static_path = ["static"]
html_css_files = ["course.css"]
html_js_files = ["course.js"]
html_favicon = "static/favicon.svg"
html_search_scorer = str(ROOT / "site" / "scorer.js")
templates_path = ["templates"]
html_context = {  # the last three are what `templates/layout.html` says of a page to those who link to it
    "default_mode": "auto",
    "about": "A course you run: a network learns to read handwritten digits, is looked into, and is fooled.",
    "questions": dict(re.findall(r"\]\((notebooks/\S+)\.ipynb\) \| (.+?) \|", README)),
    "social_picture": f"https://{OWNER.lower()}.github.io/{NAME}/_images/cover.png",
}
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_use_index = False  # no word is marked for it: the glossary and the search find them
html_theme_options = {
    "repository_url": f"https://github.com/{address(ROOT)}",
    "repository_branch": "main",
    "use_repository_button": True,
    "use_download_button": False,  # what was laid out for the page is not what a learner wants to run
    "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    "article_header_end": ["hide-code.html", "article-header-buttons.html"],
    "footer_content_items": ["extra-footer.html"],
    "extra_footer": "Code and text: MIT licence. MNIST: Y. LeCun and C. Cortes, CC BY-SA 3.0.",
    "home_page_in_toc": True,
    "navbar_persistent": [],  # the search stands in the sidebar already
    "show_toc_level": 2,
    "show_navbar_depth": 2,
    "pygments_light_style": "a11y-light",
    "pygments_dark_style": "a11y-dark",
}
