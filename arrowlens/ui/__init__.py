"""The web page: Streamlit over ``Library``, which knows everything that is more than showing.

``app.py`` is what ``streamlit run`` runs; each file under ``pages`` is one page, a straight script.
"""
