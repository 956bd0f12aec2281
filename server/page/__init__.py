"""A page on which to try a served model in a browser.

server -> answering -> asking, guarding, page_files, picture; the page itself lies in files/.
"""
