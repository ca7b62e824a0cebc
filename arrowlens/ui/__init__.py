"""The web page: Streamlit over ``Library``.

``server.py`` is the process that ``arrowlens ui`` starts, ``app.py`` the frame around all pages; each file in ``views``
is one page, a straight script.
"""
