"""The picture frame of the web page: what every page shares. ``server.py`` serves it."""

from __future__ import annotations

import streamlit as st

from arrowlens.ui import look, panels

st.set_page_config(page_title="Arrowlens", page_icon=look.ICON, layout="wide")
st.html(look.STYLE)
st.html(panels.STYLE)
page = st.navigation(
    [
        st.Page("pages/search.py", title="Search", default=True),
        st.Page("pages/library.py", title="Library"),
        st.Page("pages/map.py", title="Map"),
        st.Page("pages/duplicates.py", title="Duplicates"),
    ],
    position="top",
)
page.run()
