"""The login page: HTML of its own, since nothing of Streamlit is given out before it; it fetches nothing at all."""

from __future__ import annotations

import html
from urllib.parse import quote

from arrowlens.ui.html import ICON

_STYLE = """
:root { color-scheme: light dark; --text: #1f2430; --back: #f6f7f9; --card: #fff; --line: #c5cad3; --accent: #3b5bdb;
  --bad: #b42318; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8eaf0; --back: #0e1117; --card: #1a1f2b; --line: #454d5e; --accent: #4263eb; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1rem; background: var(--back);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
main { width: 100%; max-width: 22rem; padding: 2rem; border-radius: .9rem; background: var(--card);
  border: 1px solid var(--line); }
header { display: flex; align-items: center; gap: .7rem; margin-bottom: 1.4rem; }
h1 { font-size: 1.35rem; margin: 0; }
label { display: block; font-size: .9rem; margin-bottom: .3rem; }
input, button { width: 100%; padding: .65rem .8rem; border-radius: .5rem; font: inherit; color: inherit; }
input { background: var(--back); border: 1px solid var(--line); }
button { margin-top: 1rem; border: 0; background: var(--accent); color: #fff; font-weight: 600; cursor: pointer; }
input:focus-visible, button:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
[role=alert] { margin: .7rem 0 0; color: var(--bad); font-size: .9rem; }
"""


def login_page(action: str, target: str, message: str | None = None) -> str:
    """The page as HTML.

    Args:
        action: where the form goes. target: the place to go on to. message: what went wrong, if anything did.
    """
    wrong = f'<p role="alert" id="wrong">{html.escape(message)}</p>' if message else ""
    described = ' aria-describedby="wrong" aria-invalid="true"' if message else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sign in · Arrowlens</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:image/svg+xml,{quote(ICON)}"><style>{_STYLE}</style></head>
<body><main><header>{ICON.replace("<svg", '<svg aria-hidden="true"', 1)}<h1>Arrowlens</h1></header>
<form method="post" action="{html.escape(action)}">
<input type="hidden" name="next" value="{html.escape(target)}">
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required autofocus{described}>
{wrong}<button type="submit">Sign in</button></form></main></body></html>
"""
