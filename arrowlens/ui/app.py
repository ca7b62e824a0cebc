"""The frame that every page shares: title, styles, navigation, the link to sign out. ``server.py`` serves it.

The pages are in ``views/``: Streamlit adds files of a folder called ``pages`` to the sidebar by itself.
"""

from __future__ import annotations

import streamlit as st

from arrowlens.ui import components, html
from arrowlens.ui.new_library import offer_library
from arrowlens.ui.session import errors_shown, is_library_missing, is_signed_in, may_ingest
from arrowlens.ui.sign_in import LOGOUT

st.set_page_config(page_title="Arrowlens", page_icon=html.ICON, layout="wide")
st.html(html.STYLE)
st.html(components.STYLE)
page = st.navigation(
    [
        st.Page("views/search.py", title="Search", default=True),
        st.Page("views/library.py", title="Library"),
        st.Page("views/map.py", title="Map"),
        st.Page("views/duplicates.py", title="Duplicates"),
    ],
    position="top",
)
if is_signed_in():
    with st.container(key="sign-out"):
        st.html(f'<a href="{LOGOUT}">Sign out</a>')
if may_ingest() and is_library_missing():
    with errors_shown():
        offer_library()
else:
    page.run()
