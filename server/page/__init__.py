"""A page on which to try a served model in a browser.

server -> answering -> asking, guarding, page_files; the page itself lies in files/.
"""
