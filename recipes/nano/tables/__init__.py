"""The paper's tables on the nano model, one module each; `page.py` puts them together."""
