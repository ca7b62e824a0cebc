"""The picture frame of the web page: what every page shares. Started by ``arrowlens ui``."""

from __future__ import annotations

import streamlit as st

from arrowlens.ui.look import ICON, STYLE

st.set_page_config(page_title="Arrowlens", page_icon=ICON, layout="wide")
st.html(STYLE)
page = st.navigation([st.Page("pages/search.py", title="Search", default=True)], position="hidden")
page.run()
